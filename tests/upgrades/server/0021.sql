
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE public.access_log_position (
    id integer NOT NULL,
    head text NOT NULL,
    "offset" bigint NOT NULL
);

CREATE SEQUENCE public.access_log_position_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.access_log_position_id_seq OWNED BY public.access_log_position.id;

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);

COMMENT ON TABLE public.alembic_version IS 'moorage dev';

CREATE TABLE public.build_runs (
    id text NOT NULL,
    wallet text NOT NULL,
    project_id text NOT NULL,
    deployment_id text NOT NULL,
    monthly_price_micro_usd bigint NOT NULL,
    started_at_ms bigint NOT NULL,
    ran_ms bigint NOT NULL,
    billed_ms bigint NOT NULL,
    charged_micro_usd bigint NOT NULL
);

CREATE TABLE public.certificates (
    host text NOT NULL,
    wallet text NOT NULL,
    first_at_ms bigint NOT NULL,
    asked_at_ms bigint NOT NULL
);

CREATE TABLE public.deliveries (
    id integer NOT NULL,
    event_id text NOT NULL,
    wallet text NOT NULL,
    status text NOT NULL,
    attempts integer NOT NULL,
    last_error text,
    created_at_ms bigint NOT NULL,
    CONSTRAINT ck_deliveries_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'delivered'::text, 'failed'::text])))
);

CREATE SEQUENCE public.deliveries_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.deliveries_id_seq OWNED BY public.deliveries.id;

CREATE TABLE public.deployments (
    id text NOT NULL,
    project_id text NOT NULL,
    status text NOT NULL,
    request_digest text NOT NULL,
    plan text NOT NULL,
    note text NOT NULL,
    reason text,
    reason_code text,
    log_tail text NOT NULL,
    created_at_ms bigint NOT NULL,
    ended_at_ms bigint,
    origin text DEFAULT 'upload'::text NOT NULL,
    copy_of text,
    health_path text DEFAULT '/'::text NOT NULL,
    variables text DEFAULT ''::text NOT NULL,
    superseded_at_ms bigint,
    is_kept boolean DEFAULT true NOT NULL,
    findings text DEFAULT '[]'::text NOT NULL,
    CONSTRAINT ck_deployments_origin_known CHECK ((origin = ANY (ARRAY['upload'::text, 'rollback'::text, 'configuration'::text]))),
    CONSTRAINT ck_deployments_status_known CHECK ((status = ANY (ARRAY['queued'::text, 'building'::text, 'deploying'::text, 'ready'::text, 'failed'::text, 'superseded'::text, 'stopped'::text])))
);

CREATE TABLE public.domains (
    host text NOT NULL,
    project_id text NOT NULL,
    token text NOT NULL,
    status text NOT NULL,
    problem text DEFAULT ''::text NOT NULL,
    created_at_ms bigint NOT NULL,
    verified_at_ms bigint,
    checked_at_ms bigint,
    next_check_at_ms bigint,
    CONSTRAINT ck_domains_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'verified'::text])))
);

CREATE TABLE public.entries (
    place bigint NOT NULL,
    posting_id text NOT NULL,
    account text NOT NULL,
    amount_micro_usd bigint NOT NULL
);

CREATE SEQUENCE public.entries_place_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.entries_place_seq OWNED BY public.entries.place;

CREATE TABLE public.events (
    id text NOT NULL,
    wallet text NOT NULL,
    sequence bigint NOT NULL,
    kind text NOT NULL,
    data text NOT NULL,
    created_at_ms bigint NOT NULL
);

CREATE TABLE public.idempotent_answers (
    wallet text NOT NULL,
    key text NOT NULL,
    request_digest text NOT NULL,
    answer text NOT NULL,
    created_at_ms bigint NOT NULL,
    claim_id text DEFAULT ''::text NOT NULL,
    lease_until_ms bigint DEFAULT '0'::bigint NOT NULL,
    outcome text DEFAULT ''::text NOT NULL
);

CREATE TABLE public.jobs (
    id text NOT NULL,
    kind text NOT NULL,
    subject_id text NOT NULL,
    status text NOT NULL,
    step text NOT NULL,
    attempts integer NOT NULL,
    fence integer NOT NULL,
    run_at_ms bigint NOT NULL,
    lease_until_ms bigint NOT NULL,
    wallet text DEFAULT ''::text NOT NULL,
    builds boolean DEFAULT false NOT NULL,
    holder text DEFAULT ''::text NOT NULL,
    CONSTRAINT ck_jobs_status_known CHECK ((status = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text])))
);

CREATE TABLE public.leases (
    name text NOT NULL,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at_ms bigint NOT NULL
);

CREATE TABLE public.manage_tokens (
    digest text NOT NULL,
    project_id text NOT NULL,
    created_at_ms bigint NOT NULL
);

CREATE TABLE public.meters (
    gateway text NOT NULL,
    billed_ms bigint NOT NULL,
    monotonic_ms bigint NOT NULL,
    boot_id text NOT NULL
);

CREATE TABLE public.names (
    unique_name text NOT NULL,
    wallet text NOT NULL,
    held_until_ms bigint
);

CREATE TABLE public.payment_uses (
    chain_id bigint NOT NULL,
    tx_hash text NOT NULL,
    wallet text NOT NULL,
    project_id text,
    deployment_id text
);

CREATE TABLE public.payments (
    chain_id bigint NOT NULL,
    tx_hash text NOT NULL,
    log_index integer NOT NULL,
    payer text NOT NULL,
    token text NOT NULL,
    token_address text NOT NULL,
    amount_atomic text NOT NULL,
    credited_micro_usd bigint NOT NULL,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    claimed_at_ms bigint NOT NULL,
    status text DEFAULT 'credited'::text NOT NULL,
    finality text DEFAULT 'provisional'::text NOT NULL,
    round integer DEFAULT 1 NOT NULL,
    posting_id text DEFAULT ''::text NOT NULL,
    held_reason text,
    recipient text,
    CONSTRAINT ck_payments_finality_known CHECK ((finality = ANY (ARRAY['provisional'::text, 'safe'::text, 'finalized'::text]))),
    CONSTRAINT ck_payments_status_known CHECK ((status = ANY (ARRAY['credited'::text, 'held'::text, 'reversed'::text, 'refunded'::text])))
);

CREATE TABLE public.postings (
    id text NOT NULL,
    kind text NOT NULL,
    created_at_ms bigint NOT NULL
);

CREATE TABLE public.projects (
    id text NOT NULL,
    wallet text NOT NULL,
    unique_name text NOT NULL,
    display_name text NOT NULL,
    description text NOT NULL,
    status text NOT NULL,
    monthly_price_micro_usd bigint NOT NULL,
    serving_deployment_id text,
    created_at_ms bigint NOT NULL,
    deleted_at_ms bigint,
    suspended_at_ms bigint,
    blocked_reason text,
    asleep_since_ms bigint,
    health_path text DEFAULT '/'::text NOT NULL,
    variables text DEFAULT ''::text NOT NULL,
    volume boolean DEFAULT false NOT NULL,
    no_space_since_ms bigint,
    down_since_ms bigint,
    CONSTRAINT ck_projects_status_known CHECK ((status = ANY (ARRAY['queued'::text, 'building'::text, 'deploying'::text, 'active'::text, 'failed'::text, 'suspended'::text, 'deleting'::text, 'deleted'::text])))
);

CREATE TABLE public.quotes (
    id text NOT NULL,
    wallet text NOT NULL,
    unique_name text NOT NULL,
    months integer NOT NULL,
    price_micro_usd bigint NOT NULL,
    received_micro_usd bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    promised_at_ms bigint DEFAULT '0'::bigint NOT NULL,
    counted_micro_usd bigint DEFAULT '0'::bigint NOT NULL
);

CREATE TABLE public.recipients (
    address text NOT NULL,
    since_ms bigint NOT NULL
);

CREATE TABLE public.refunds (
    id text NOT NULL,
    chain_id bigint NOT NULL,
    tx_hash text NOT NULL,
    log_index integer NOT NULL,
    recipient text NOT NULL,
    token_address text NOT NULL,
    amount_atomic text NOT NULL,
    debited_micro_usd bigint NOT NULL,
    reason text NOT NULL,
    status text NOT NULL,
    refund_tx_hash text,
    created_at_ms bigint NOT NULL,
    ended_at_ms bigint,
    finality text DEFAULT 'provisional'::text NOT NULL,
    CONSTRAINT ck_refunds_finality_known CHECK ((finality = ANY (ARRAY['provisional'::text, 'safe'::text, 'finalized'::text]))),
    CONSTRAINT ck_refunds_status_known CHECK ((status = ANY (ARRAY['intended'::text, 'sent'::text, 'refunded'::text, 'failed'::text])))
);

CREATE TABLE public.relay_nonces (
    chain_id bigint NOT NULL,
    sender text NOT NULL,
    nonce bigint NOT NULL,
    subject_id text NOT NULL
);

CREATE TABLE public.relay_transactions (
    chain_id bigint NOT NULL,
    tx_hash text NOT NULL,
    sender text NOT NULL,
    nonce bigint NOT NULL,
    subject_id text NOT NULL,
    recipient text NOT NULL,
    data text NOT NULL,
    gas_limit bigint NOT NULL,
    max_fee_per_gas text NOT NULL,
    max_priority_fee_per_gas text NOT NULL,
    raw text NOT NULL,
    status text NOT NULL,
    block_number bigint,
    signed_at_ms bigint NOT NULL,
    CONSTRAINT ck_relay_transactions_status_known CHECK ((status = ANY (ARRAY['signed'::text, 'mined'::text, 'reverted'::text, 'replaced'::text])))
);

CREATE TABLE public.restarts (
    deployment_id text NOT NULL,
    last_ms bigint NOT NULL,
    history text NOT NULL
);

CREATE TABLE public.run_intervals (
    id text NOT NULL,
    project_id text NOT NULL,
    started_at_ms bigint NOT NULL,
    ended_at_ms bigint,
    charged_until_ms bigint NOT NULL,
    charged_micro_usd bigint NOT NULL,
    monthly_price_micro_usd bigint
);

CREATE TABLE public.settlements (
    id text NOT NULL,
    chain_id bigint NOT NULL,
    token text NOT NULL,
    token_address text NOT NULL,
    payer text NOT NULL,
    recipient text NOT NULL,
    amount_atomic text NOT NULL,
    valid_after text NOT NULL,
    valid_before text NOT NULL,
    nonce text NOT NULL,
    signature text NOT NULL,
    from_block bigint NOT NULL,
    unique_name text,
    status text NOT NULL,
    tx_hash text,
    failure text,
    created_at_ms bigint NOT NULL,
    ended_at_ms bigint,
    open_body text,
    CONSTRAINT ck_settlements_status_known CHECK ((status = ANY (ARRAY['intended'::text, 'sent'::text, 'settled'::text, 'failed'::text])))
);

CREATE TABLE public.usage (
    project_id text NOT NULL,
    hour_ms bigint NOT NULL,
    cpu_ms bigint NOT NULL,
    memory_byte_seconds bigint NOT NULL,
    memory_peak_bytes bigint NOT NULL,
    requests bigint NOT NULL,
    bytes_in bigint NOT NULL,
    bytes_out bigint NOT NULL,
    status_1xx bigint NOT NULL,
    status_2xx bigint NOT NULL,
    status_3xx bigint NOT NULL,
    status_4xx bigint NOT NULL,
    status_5xx bigint NOT NULL
);

CREATE TABLE public.usage_counters (
    deployment_id text NOT NULL,
    cpu_ms bigint NOT NULL,
    cpu_millis bigint,
    memory_bytes bigint
);

CREATE TABLE public.wallets (
    address text NOT NULL,
    balance_micro_usd bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    warned_hours integer,
    blocked_reason text
);

CREATE TABLE public.watch_cursors (
    chain_id bigint NOT NULL,
    search text NOT NULL,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    CONSTRAINT ck_watch_cursors_search_known CHECK ((search = ANY (ARRAY['confirmed'::text, 'safe'::text])))
);

CREATE TABLE public.webhooks (
    wallet text NOT NULL,
    url text NOT NULL,
    secret text NOT NULL,
    created_at_ms bigint NOT NULL,
    next_at_ms bigint,
    lease_until_ms bigint DEFAULT '0'::bigint NOT NULL,
    fence bigint DEFAULT '0'::bigint NOT NULL,
    holder text DEFAULT ''::text NOT NULL
);

ALTER TABLE ONLY public.access_log_position ALTER COLUMN id SET DEFAULT nextval('public.access_log_position_id_seq'::regclass);

ALTER TABLE ONLY public.deliveries ALTER COLUMN id SET DEFAULT nextval('public.deliveries_id_seq'::regclass);

ALTER TABLE ONLY public.entries ALTER COLUMN place SET DEFAULT nextval('public.entries_place_seq'::regclass);

INSERT INTO public.access_log_position VALUES (1, '8974371ae32b6713550ec3af9c56af9d', 1471);

INSERT INTO public.alembic_version VALUES ('0021');

INSERT INTO public.build_runs VALUES ('187a056d-6bfc-4575-9e3a-282eae409709', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 'baa2eee8-f07d-4025-abbe-22797c24f1e3', '2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2', 2000000, 1795752844977, 499, 0, 0);
INSERT INTO public.build_runs VALUES ('5b88840d-53f9-4d04-b23b-ee5d76e39e10', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 'baa2eee8-f07d-4025-abbe-22797c24f1e3', '5025f389-0cc9-40a1-9177-2821b3e33d24', 2000000, 1795752843313, 422, 0, 0);
INSERT INTO public.build_runs VALUES ('a55ecf77-6c04-4386-bf85-60e3cde80daa', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', '10c2671d-2f57-494b-8ff7-5f16e3ed45f0', 'bf1ecfb7-44c7-4114-adc6-c4ae1c885a17', 2000000, 1795752846605, 536, 0, 0);
INSERT INTO public.build_runs VALUES ('c1850a33-fb6b-4d0e-b349-6beccd3eb6cf', '0x9493028683c8fd652174ba45589993cc46799b29', '7e1060da-74b5-4b0e-bed3-2004f471043f', 'c641e7f6-9375-469e-9de5-8aa324dff466', 2000000, 1795752848220, 254, 0, 0);

INSERT INTO public.deployments VALUES ('2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2', 'baa2eee8-f07d-4025-abbe-22797c24f1e3', 'ready', '00c29510c7d35ea476ccd5c948a6b6ada3e49957758e6efba86551fca0306cc6', '{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"host_tools":{"caddy":"2.11.7"},"install_inputs":[]}', '', NULL, NULL, '', 1795752844961, 1795752846162, 'upload', NULL, '/', '', NULL, true, '[]');
INSERT INTO public.deployments VALUES ('5025f389-0cc9-40a1-9177-2821b3e33d24', 'baa2eee8-f07d-4025-abbe-22797c24f1e3', 'superseded', '4330e160dbfad82ba06c4aa4706911fb0a30573d93c803db11759048c77f017b', '{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}', '', NULL, NULL, '', 1795752842445, 1795752844722, 'upload', NULL, '/', '', 1795752846162, true, '[]');
INSERT INTO public.deployments VALUES ('bf1ecfb7-44c7-4114-adc6-c4ae1c885a17', '10c2671d-2f57-494b-8ff7-5f16e3ed45f0', 'failed', '8c3fd1effff038ad73fe65f1cbf2c5895a7654026da75e205f3e04360b33b689', '{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}', '', '`exec node index.js` ended with exit code 1 before it listened on a port', 'crashed', '', 1795752846586, 1795752848121, 'upload', NULL, '/', '', NULL, true, '[]');
INSERT INTO public.deployments VALUES ('c641e7f6-9375-469e-9de5-8aa324dff466', '7e1060da-74b5-4b0e-bed3-2004f471043f', 'ready', '19aa5d6028a4c6c4f5e76577c45e0d2bf87af7062880e46efff3dc858c1347c9', '{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"host_tools":{"caddy":"2.11.7"},"install_inputs":[]}', '', NULL, NULL, '', 1795752848171, 1795752850019, 'upload', NULL, '/', '', NULL, true, '[]');

INSERT INTO public.entries VALUES (1, 'payment:42161:0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3:0', 'wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 500000);
INSERT INTO public.entries VALUES (2, 'payment:42161:0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3:0', 'received:42161:usdc', -500000);
INSERT INTO public.entries VALUES (3, 'payment:42161:0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138:0', 'wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 500000);
INSERT INTO public.entries VALUES (4, 'payment:42161:0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138:0', 'received:42161:usdc', -500000);
INSERT INTO public.entries VALUES (5, 'payment:42161:0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574:0', 'wallet:0x9493028683c8fd652174ba45589993cc46799b29', 500000);
INSERT INTO public.entries VALUES (6, 'payment:42161:0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574:0', 'received:42161:usdc', -500000);
INSERT INTO public.entries VALUES (7, 'payment:42161:0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927:0', 'wallet:0x9493028683c8fd652174ba45589993cc46799b29', 700000);
INSERT INTO public.entries VALUES (8, 'payment:42161:0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927:0', 'received:42161:usdc', -700000);

INSERT INTO public.events VALUES ('evt_2d098f5003a644a18cc8c8c32222ae01', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 1, 'payment.credited', '{"chain_id":42161,"tx_hash":"0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}', 1795752842373);
INSERT INTO public.events VALUES ('evt_4d58d9e7ae7f4fb19e731a81c578b7bb', '0x9493028683c8fd652174ba45589993cc46799b29', 2, 'deployment.ready', '{"project_id":"7e1060da-74b5-4b0e-bed3-2004f471043f","deployment_id":"c641e7f6-9375-469e-9de5-8aa324dff466","endpoint":"http://other.localhost:41861"}', 1795752850019);
INSERT INTO public.events VALUES ('evt_5f9cb14fdffd4960a1f38e40af90a216', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 3, 'deployment.ready', '{"project_id":"baa2eee8-f07d-4025-abbe-22797c24f1e3","deployment_id":"2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2","endpoint":"http://kept.localhost:41861"}', 1795752846162);
INSERT INTO public.events VALUES ('evt_7a85211c9bc548c5aa3148f3beeaa0a0', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 4, 'payment.credited', '{"chain_id":42161,"tx_hash":"0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}', 1795752846551);
INSERT INTO public.events VALUES ('evt_b0f1ff7c66244f09a8f8bf8ccdfaa4a3', '0x9493028683c8fd652174ba45589993cc46799b29', 1, 'payment.credited', '{"chain_id":42161,"tx_hash":"0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}', 1795752848170);
INSERT INTO public.events VALUES ('evt_b733d2695d9a4cfa96da5ba805850918', '0x9493028683c8fd652174ba45589993cc46799b29', 3, 'payment.credited', '{"chain_id":42161,"tx_hash":"0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927","log_index":0,"token":"usdc","amount_token":"700000","amount_usd":0.7}', 1795752850777);
INSERT INTO public.events VALUES ('evt_c380e41f36024b1eae39033bfcc0f8e9', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 5, 'deployment.failed', '{"project_id":"10c2671d-2f57-494b-8ff7-5f16e3ed45f0","deployment_id":"bf1ecfb7-44c7-4114-adc6-c4ae1c885a17","reason":"`exec node index.js` ended with exit code 1 before it listened on a port","reason_code":"crashed"}', 1795752848121);
INSERT INTO public.events VALUES ('evt_e25f46bc60114af18245804a8d552440', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 2, 'deployment.ready', '{"project_id":"baa2eee8-f07d-4025-abbe-22797c24f1e3","deployment_id":"5025f389-0cc9-40a1-9177-2821b3e33d24","endpoint":"http://kept.localhost:41861"}', 1795752844722);

INSERT INTO public.jobs VALUES ('045aca9b-4ca6-4101-a6a6-1c894a3ac7c3', 'deploy', 'c641e7f6-9375-469e-9de5-8aa324dff466', 'done', 'ready', 1, 1, 1795752848171, 1795752908208, '0x9493028683c8fd652174ba45589993cc46799b29', false, '559bfafb513c4226a7feab452bbbba55');
INSERT INTO public.jobs VALUES ('4eeec562-f1a8-4a66-a7a9-4a66cd6902f4', 'deploy', '2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2', 'done', 'ready', 1, 1, 1795752844961, 1795752904976, '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', false, '559bfafb513c4226a7feab452bbbba55');
INSERT INTO public.jobs VALUES ('9e9c08fa-f0e9-4530-b44d-71b8e5e8dfe3', 'deploy', 'bf1ecfb7-44c7-4114-adc6-c4ae1c885a17', 'done', 'failed', 1, 1, 1795752846586, 1795752906604, '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', false, '559bfafb513c4226a7feab452bbbba55');
INSERT INTO public.jobs VALUES ('b8f18028-5514-4c6f-b0be-c5911d9d18c1', 'deploy', '5025f389-0cc9-40a1-9177-2821b3e33d24', 'done', 'ready', 1, 1, 1795752842445, 1795752903161, '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', false, '559bfafb513c4226a7feab452bbbba55');

INSERT INTO public.leases VALUES ('domains', '559bfafb513c4226a7feab452bbbba55', 1, 0);
INSERT INTO public.leases VALUES ('finality of arbitrum', '559bfafb513c4226a7feab452bbbba55', 1, 0);
INSERT INTO public.leases VALUES ('finality of base', '559bfafb513c4226a7feab452bbbba55', 1, 0);
INSERT INTO public.leases VALUES ('refunds of arbitrum', '559bfafb513c4226a7feab452bbbba55', 1, 0);
INSERT INTO public.leases VALUES ('refunds of base', '559bfafb513c4226a7feab452bbbba55', 1, 0);
INSERT INTO public.leases VALUES ('search of arbitrum', '559bfafb513c4226a7feab452bbbba55', 1, 0);
INSERT INTO public.leases VALUES ('search of base', '559bfafb513c4226a7feab452bbbba55', 1, 0);
INSERT INTO public.leases VALUES ('settlements', '559bfafb513c4226a7feab452bbbba55', 1, 0);
INSERT INTO public.leases VALUES ('suspension', '559bfafb513c4226a7feab452bbbba55', 1, 0);

INSERT INTO public.meters VALUES ('559bfafb513c4226a7feab452bbbba55', 1795752850019, 15849196, '4fdc0208-6178-4508-99cc-12101b8dfde5');

INSERT INTO public.names VALUES ('broken', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', NULL);
INSERT INTO public.names VALUES ('kept', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', NULL);
INSERT INTO public.names VALUES ('other', '0x9493028683c8fd652174ba45589993cc46799b29', NULL);

INSERT INTO public.payment_uses VALUES (42161, '0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574', '0x9493028683c8fd652174ba45589993cc46799b29', '7e1060da-74b5-4b0e-bed3-2004f471043f', 'c641e7f6-9375-469e-9de5-8aa324dff466');
INSERT INTO public.payment_uses VALUES (42161, '0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', '10c2671d-2f57-494b-8ff7-5f16e3ed45f0', 'bf1ecfb7-44c7-4114-adc6-c4ae1c885a17');
INSERT INTO public.payment_uses VALUES (42161, '0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 'baa2eee8-f07d-4025-abbe-22797c24f1e3', '5025f389-0cc9-40a1-9177-2821b3e33d24');

INSERT INTO public.payments VALUES (42161, '0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927', 0, '0x9493028683c8fd652174ba45589993cc46799b29', 'usdc', '0xaf88d065e77c8cc2239327c5edb3a432268e5831', '700000', 700000, 5, '0xf0d9fa7cb31e323c9476153893e99d3a4c63af8a406762759a96f85b19e0f4ed', 1795752850777, 'credited', 'finalized', 1, 'payment:42161:0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927:0', NULL, '0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54');
INSERT INTO public.payments VALUES (42161, '0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574', 0, '0x9493028683c8fd652174ba45589993cc46799b29', 'usdc', '0xaf88d065e77c8cc2239327c5edb3a432268e5831', '500000', 500000, 4, '0x65dbb318bb0162377fc02ad8a9eacd2ac1abc47708c5c4f6d8a589c62c27df63', 1795752848170, 'credited', 'finalized', 1, 'payment:42161:0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574:0', NULL, '0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54');
INSERT INTO public.payments VALUES (42161, '0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138', 0, '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 'usdc', '0xaf88d065e77c8cc2239327c5edb3a432268e5831', '500000', 500000, 3, '0xdd506e70aef111d179ef59e7695004c25a437579fcd61560b5c9b074bc5ee89c', 1795752846551, 'credited', 'finalized', 1, 'payment:42161:0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138:0', NULL, '0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54');
INSERT INTO public.payments VALUES (42161, '0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3', 0, '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 'usdc', '0xaf88d065e77c8cc2239327c5edb3a432268e5831', '500000', 500000, 2, '0x7ad223e1a2af833818fac80743545703e113664763358855dd4a6d67536c0596', 1795752842373, 'credited', 'finalized', 1, 'payment:42161:0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3:0', NULL, '0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54');

INSERT INTO public.postings VALUES ('payment:42161:0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927:0', 'payment', 1795752850777);
INSERT INTO public.postings VALUES ('payment:42161:0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574:0', 'payment', 1795752848170);
INSERT INTO public.postings VALUES ('payment:42161:0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138:0', 'payment', 1795752846551);
INSERT INTO public.postings VALUES ('payment:42161:0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3:0', 'payment', 1795752842373);

INSERT INTO public.projects VALUES ('10c2671d-2f57-494b-8ff7-5f16e3ed45f0', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 'broken', 'broken', '', 'failed', 500000, NULL, 1795752846586, NULL, NULL, NULL, NULL, '/', '', false, NULL, NULL);
INSERT INTO public.projects VALUES ('7e1060da-74b5-4b0e-bed3-2004f471043f', '0x9493028683c8fd652174ba45589993cc46799b29', 'other', 'other', '', 'active', 500000, 'c641e7f6-9375-469e-9de5-8aa324dff466', 1795752848171, NULL, NULL, NULL, NULL, '/', '', false, NULL, NULL);
INSERT INTO public.projects VALUES ('baa2eee8-f07d-4025-abbe-22797c24f1e3', '0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 'kept', 'kept', '', 'active', 500000, '2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2', 1795752842445, NULL, NULL, NULL, NULL, '/', '', false, NULL, NULL);

INSERT INTO public.recipients VALUES ('0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54', 1795752839788);

INSERT INTO public.run_intervals VALUES ('16e653d2-80ee-4fd0-bee9-c3a4e367bb0a', 'baa2eee8-f07d-4025-abbe-22797c24f1e3', 1795752844728, NULL, 1795752844728, 0, 500000);
INSERT INTO public.run_intervals VALUES ('74dcb768-e0f5-40c3-bd9b-48294740d84f', '7e1060da-74b5-4b0e-bed3-2004f471043f', 1795752850019, NULL, 1795752850019, 0, 500000);

INSERT INTO public.usage VALUES ('7e1060da-74b5-4b0e-bed3-2004f471043f', 1795752000000, 73, 0, 12029952, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO public.usage VALUES ('baa2eee8-f07d-4025-abbe-22797c24f1e3', 1795752000000, 92, 0, 11468800, 0, 0, 0, 0, 0, 0, 0, 0);

INSERT INTO public.usage_counters VALUES ('2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2', 92, NULL, NULL);
INSERT INTO public.usage_counters VALUES ('c641e7f6-9375-469e-9de5-8aa324dff466', 73, NULL, NULL);

INSERT INTO public.wallets VALUES ('0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025', 1000000, 1795752842373, NULL, NULL);
INSERT INTO public.wallets VALUES ('0x9493028683c8fd652174ba45589993cc46799b29', 1200000, 1795752848170, NULL, NULL);

INSERT INTO public.watch_cursors VALUES (8453, 'confirmed', 241, '0x8b3981b3fe34c479611d6524dadec6cc06bf59127f3f8f4e7e0f66e6f62cdb4a');
INSERT INTO public.watch_cursors VALUES (8453, 'safe', 240, '0x352f455c29da88b0675b18b7c8bdb3c9a49f96faaef71c814a80c056f8d2cdcb');
INSERT INTO public.watch_cursors VALUES (42161, 'confirmed', 245, '0x26a2a4b4f3acb47f409b099b5d22a988f9e0e1ccc59b1a056038fdf4d072c140');
INSERT INTO public.watch_cursors VALUES (42161, 'safe', 244, '0x227ddfe7a43f33f8f548651267c5c14edde02daf282870bfd121d966c3122014');

SELECT pg_catalog.setval('public.access_log_position_id_seq', 1, true);

SELECT pg_catalog.setval('public.deliveries_id_seq', 1, false);

SELECT pg_catalog.setval('public.entries_place_seq', 8, true);

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.access_log_position
    ADD CONSTRAINT pk_access_log_position PRIMARY KEY (id);

ALTER TABLE ONLY public.build_runs
    ADD CONSTRAINT pk_build_runs PRIMARY KEY (id);

ALTER TABLE ONLY public.certificates
    ADD CONSTRAINT pk_certificates PRIMARY KEY (host);

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT pk_deliveries PRIMARY KEY (id);

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT pk_deployments PRIMARY KEY (id);

ALTER TABLE ONLY public.domains
    ADD CONSTRAINT pk_domains PRIMARY KEY (host, project_id);

ALTER TABLE ONLY public.entries
    ADD CONSTRAINT pk_entries PRIMARY KEY (place);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT pk_events PRIMARY KEY (id);

ALTER TABLE ONLY public.idempotent_answers
    ADD CONSTRAINT pk_idempotent_answers PRIMARY KEY (wallet, key);

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT pk_jobs PRIMARY KEY (id);

ALTER TABLE ONLY public.leases
    ADD CONSTRAINT pk_leases PRIMARY KEY (name);

ALTER TABLE ONLY public.manage_tokens
    ADD CONSTRAINT pk_manage_tokens PRIMARY KEY (digest);

ALTER TABLE ONLY public.meters
    ADD CONSTRAINT pk_meters PRIMARY KEY (gateway);

ALTER TABLE ONLY public.names
    ADD CONSTRAINT pk_names PRIMARY KEY (unique_name);

ALTER TABLE ONLY public.payment_uses
    ADD CONSTRAINT pk_payment_uses PRIMARY KEY (chain_id, tx_hash, wallet);

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT pk_payments PRIMARY KEY (chain_id, tx_hash, log_index);

ALTER TABLE ONLY public.postings
    ADD CONSTRAINT pk_postings PRIMARY KEY (id);

ALTER TABLE ONLY public.projects
    ADD CONSTRAINT pk_projects PRIMARY KEY (id);

ALTER TABLE ONLY public.quotes
    ADD CONSTRAINT pk_quotes PRIMARY KEY (id);

ALTER TABLE ONLY public.recipients
    ADD CONSTRAINT pk_recipients PRIMARY KEY (address);

ALTER TABLE ONLY public.refunds
    ADD CONSTRAINT pk_refunds PRIMARY KEY (id);

ALTER TABLE ONLY public.relay_nonces
    ADD CONSTRAINT pk_relay_nonces PRIMARY KEY (chain_id, sender, nonce);

ALTER TABLE ONLY public.relay_transactions
    ADD CONSTRAINT pk_relay_transactions PRIMARY KEY (chain_id, tx_hash);

ALTER TABLE ONLY public.restarts
    ADD CONSTRAINT pk_restarts PRIMARY KEY (deployment_id);

ALTER TABLE ONLY public.run_intervals
    ADD CONSTRAINT pk_run_intervals PRIMARY KEY (id);

ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT pk_settlements PRIMARY KEY (id);

ALTER TABLE ONLY public.usage
    ADD CONSTRAINT pk_usage PRIMARY KEY (project_id, hour_ms);

ALTER TABLE ONLY public.usage_counters
    ADD CONSTRAINT pk_usage_counters PRIMARY KEY (deployment_id);

ALTER TABLE ONLY public.wallets
    ADD CONSTRAINT pk_wallets PRIMARY KEY (address);

ALTER TABLE ONLY public.watch_cursors
    ADD CONSTRAINT pk_watch_cursors PRIMARY KEY (chain_id, search);

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT pk_webhooks PRIMARY KEY (wallet);

ALTER TABLE ONLY public.entries
    ADD CONSTRAINT uq_entries_posting_id_account UNIQUE (posting_id, account);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT uq_events_wallet_sequence UNIQUE (wallet, sequence);

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT uq_jobs_kind_subject_id UNIQUE (kind, subject_id);

ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT uq_settlements_chain_id_token_address_payer_nonce UNIQUE (chain_id, token_address, payer, nonce);

CREATE INDEX ix_build_runs_wallet ON public.build_runs USING btree (wallet);

CREATE INDEX ix_certificates_wallet_first_at_ms ON public.certificates USING btree (wallet, first_at_ms);

CREATE INDEX ix_deliveries_event_id ON public.deliveries USING btree (event_id);

CREATE INDEX ix_deliveries_wallet_status_id ON public.deliveries USING btree (wallet, status, id);

CREATE INDEX ix_deployments_project_id_created_at_ms ON public.deployments USING btree (project_id, created_at_ms);

CREATE INDEX ix_deployments_status ON public.deployments USING btree (status);

CREATE INDEX ix_domains_next_check_at_ms ON public.domains USING btree (next_check_at_ms);

CREATE INDEX ix_domains_project_id ON public.domains USING btree (project_id);

CREATE INDEX ix_entries_account ON public.entries USING btree (account);

CREATE INDEX ix_events_created_at_ms ON public.events USING btree (created_at_ms);

CREATE INDEX ix_idempotent_answers_created_at_ms ON public.idempotent_answers USING btree (created_at_ms);

CREATE INDEX ix_jobs_status_run_at_ms ON public.jobs USING btree (status, run_at_ms);

CREATE INDEX ix_manage_tokens_project_id_created_at_ms ON public.manage_tokens USING btree (project_id, created_at_ms);

CREATE INDEX ix_names_wallet_held_until_ms ON public.names USING btree (wallet, held_until_ms);

CREATE INDEX ix_payments_chain_id_finality_block_number ON public.payments USING btree (chain_id, finality, block_number);

CREATE INDEX ix_payments_payer ON public.payments USING btree (payer);

CREATE INDEX ix_payments_reversed ON public.payments USING btree (chain_id, tx_hash) WHERE (status = 'reversed'::text);

CREATE INDEX ix_projects_blocked ON public.projects USING btree (id) WHERE (blocked_reason IS NOT NULL);

CREATE INDEX ix_projects_wallet_created_at_ms ON public.projects USING btree (wallet, created_at_ms);

CREATE INDEX ix_quotes_expires_at_ms ON public.quotes USING btree (expires_at_ms);

CREATE INDEX ix_quotes_unique_name_expires_at_ms ON public.quotes USING btree (unique_name, expires_at_ms);

CREATE INDEX ix_quotes_wallet_expires_at_ms ON public.quotes USING btree (wallet, expires_at_ms);

CREATE INDEX ix_refunds_chain_id_tx_hash_log_index ON public.refunds USING btree (chain_id, tx_hash, log_index);

CREATE INDEX ix_refunds_status ON public.refunds USING btree (status);

CREATE INDEX ix_relay_transactions_chain_id_sender_nonce ON public.relay_transactions USING btree (chain_id, sender, nonce);

CREATE INDEX ix_relay_transactions_chain_id_sender_status ON public.relay_transactions USING btree (chain_id, sender, status);

CREATE INDEX ix_relay_transactions_subject_id ON public.relay_transactions USING btree (subject_id);

CREATE INDEX ix_run_intervals_ended_at_ms_charged_until_ms ON public.run_intervals USING btree (ended_at_ms, charged_until_ms);

CREATE INDEX ix_settlements_chain_id_status ON public.settlements USING btree (chain_id, status);

CREATE INDEX ix_settlements_chain_id_tx_hash ON public.settlements USING btree (chain_id, tx_hash);

CREATE INDEX ix_settlements_payer_status ON public.settlements USING btree (payer, status);

CREATE INDEX ix_usage_hour_ms ON public.usage USING btree (hour_ms);

CREATE INDEX ix_webhooks_next_at_ms ON public.webhooks USING btree (next_at_ms);

CREATE UNIQUE INDEX uq_deployments_under_way ON public.deployments USING btree (project_id) WHERE (status = ANY (ARRAY['queued'::text, 'building'::text, 'deploying'::text]));

CREATE UNIQUE INDEX uq_domains_verified ON public.domains USING btree (host) WHERE (status = 'verified'::text);

CREATE UNIQUE INDEX uq_projects_living_name ON public.projects USING btree (unique_name) WHERE (deleted_at_ms IS NULL);

CREATE UNIQUE INDEX uq_run_intervals_open ON public.run_intervals USING btree (project_id) WHERE (ended_at_ms IS NULL);

ALTER TABLE ONLY public.build_runs
    ADD CONSTRAINT fk_build_runs_deployment_id FOREIGN KEY (deployment_id) REFERENCES public.deployments(id);

ALTER TABLE ONLY public.build_runs
    ADD CONSTRAINT fk_build_runs_project_id FOREIGN KEY (project_id) REFERENCES public.projects(id);

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT fk_deliveries_event_id FOREIGN KEY (event_id) REFERENCES public.events(id);

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT fk_deployments_project_id FOREIGN KEY (project_id) REFERENCES public.projects(id);

ALTER TABLE ONLY public.domains
    ADD CONSTRAINT fk_domains_project_id FOREIGN KEY (project_id) REFERENCES public.projects(id);

ALTER TABLE ONLY public.entries
    ADD CONSTRAINT fk_entries_posting_id FOREIGN KEY (posting_id) REFERENCES public.postings(id);

ALTER TABLE ONLY public.manage_tokens
    ADD CONSTRAINT fk_manage_tokens_project_id FOREIGN KEY (project_id) REFERENCES public.projects(id);

ALTER TABLE ONLY public.restarts
    ADD CONSTRAINT fk_restarts_deployment_id FOREIGN KEY (deployment_id) REFERENCES public.deployments(id);

ALTER TABLE ONLY public.run_intervals
    ADD CONSTRAINT fk_run_intervals_project_id FOREIGN KEY (project_id) REFERENCES public.projects(id);

ALTER TABLE ONLY public.usage_counters
    ADD CONSTRAINT fk_usage_counters_deployment_id FOREIGN KEY (deployment_id) REFERENCES public.deployments(id);

ALTER TABLE ONLY public.usage
    ADD CONSTRAINT fk_usage_project_id FOREIGN KEY (project_id) REFERENCES public.projects(id);

