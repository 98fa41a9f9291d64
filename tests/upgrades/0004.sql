BEGIN TRANSACTION;
CREATE TABLE access_log_position (
	id INTEGER NOT NULL, 
	head TEXT NOT NULL, 
	"offset" BIGINT NOT NULL, 
	CONSTRAINT pk_access_log_position PRIMARY KEY (id)
);
INSERT INTO "access_log_position" VALUES(1,'5173366dd9b515c51c917e0320dae0c8',1469);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE deliveries (
	id INTEGER NOT NULL, 
	event_id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	status TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	last_error TEXT, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_deliveries PRIMARY KEY (id), 
	CONSTRAINT ck_deliveries_status_known CHECK (status IN ('pending', 'delivered', 'failed')), 
	CONSTRAINT fk_deliveries_event_id FOREIGN KEY(event_id) REFERENCES events (id)
);
CREATE TABLE "deployments" (
	id TEXT NOT NULL, 
	project_id TEXT NOT NULL, 
	status TEXT NOT NULL, 
	request_digest TEXT NOT NULL, 
	"plan" TEXT NOT NULL, 
	note TEXT NOT NULL, 
	reason TEXT, 
	reason_code TEXT, 
	log_tail TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	ended_at_ms BIGINT, 
	origin TEXT DEFAULT 'upload' NOT NULL, 
	copy_of TEXT, 
	health_path TEXT DEFAULT '/' NOT NULL, 
	variables TEXT DEFAULT '' NOT NULL, 
	superseded_at_ms BIGINT, 
	is_kept BOOLEAN DEFAULT 1 NOT NULL, 
	CONSTRAINT pk_deployments PRIMARY KEY (id), 
	CONSTRAINT ck_deployments_status_known CHECK (status IN ('queued', 'building', 'deploying', 'ready', 'failed', 'superseded', 'stopped')), 
	CONSTRAINT fk_deployments_project_id FOREIGN KEY(project_id) REFERENCES projects (id), 
	CONSTRAINT ck_deployments_origin_known CHECK (origin IN ('upload', 'rollback', 'configuration'))
);
INSERT INTO "deployments" VALUES('ecabcfeb-b1bf-40d0-a94f-b312724d8185','9be0db85-b7e6-4eb7-9368-817139254689','superseded','4330e160dbfad82ba06c4aa4706911fb0a30573d93c803db11759048c77f017b','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"install_inputs":[]}','',NULL,NULL,'',1795752726851,1795752727262,'upload',NULL,'/','',1795752727528,1);
INSERT INTO "deployments" VALUES('18f4d8eb-9456-4b87-8a49-6b08ef907e4c','9be0db85-b7e6-4eb7-9368-817139254689','ready','00c29510c7d35ea476ccd5c948a6b6ada3e49957758e6efba86551fca0306cc6','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"install_inputs":[]}','',NULL,NULL,'',1795752727310,1795752727528,'upload',NULL,'/','',NULL,1);
INSERT INTO "deployments" VALUES('54fd7161-ce4f-442a-928a-c79cd82217a4','686c0eb9-f8eb-472d-b952-1ea55d50d224','failed','8c3fd1effff038ad73fe65f1cbf2c5895a7654026da75e205f3e04360b33b689','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"install_inputs":[]}','','`exec node index.js` ended with exit code 1 before it listened on a port','crashed','',1795752727659,1795752727933,'upload',NULL,'/','',NULL,1);
INSERT INTO "deployments" VALUES('002d3e8d-8c4b-4f67-880b-099fbd51fa2d','25e8627e-0b4b-485e-aa8a-ca3f0955d513','ready','19aa5d6028a4c6c4f5e76577c45e0d2bf87af7062880e46efff3dc858c1347c9','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"install_inputs":[]}','',NULL,NULL,'',1795752728108,1795752728603,'upload',NULL,'/','',NULL,1);
CREATE TABLE domains (
	host TEXT NOT NULL, 
	project_id TEXT NOT NULL, 
	token TEXT NOT NULL, 
	status TEXT NOT NULL, 
	problem TEXT DEFAULT '' NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	verified_at_ms BIGINT, 
	checked_at_ms BIGINT, 
	next_check_at_ms BIGINT, 
	CONSTRAINT pk_domains PRIMARY KEY (host, project_id), 
	CONSTRAINT ck_domains_status_known CHECK (status IN ('pending', 'verified')), 
	CONSTRAINT fk_domains_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE entries (
	posting_id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	amount_micro_usd BIGINT NOT NULL, 
	CONSTRAINT pk_entries PRIMARY KEY (posting_id, account), 
	CONSTRAINT fk_entries_posting_id FOREIGN KEY(posting_id) REFERENCES postings (id)
);
INSERT INTO "entries" VALUES('payment:42161:0x09e9d4fdf0adfeb67f7b07ba8a321b2e5747de7f624a0cdbdc83710945e7ac3c:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES('payment:42161:0x09e9d4fdf0adfeb67f7b07ba8a321b2e5747de7f624a0cdbdc83710945e7ac3c:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES('payment:42161:0x07ab5bd223b4cce7b040feec315585dcb603b91fd1dd4323fe0cc1f74d2fcdf5:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES('payment:42161:0x07ab5bd223b4cce7b040feec315585dcb603b91fd1dd4323fe0cc1f74d2fcdf5:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES('payment:42161:0x37e97db19765b3dd29d9fdab6f5a012d8ff96bb0282246b1f6f696eca8a0a1d4:0','wallet:0x1de60fdb5f1f004b823cbfa219d2a8d4590df989',500000);
INSERT INTO "entries" VALUES('payment:42161:0x37e97db19765b3dd29d9fdab6f5a012d8ff96bb0282246b1f6f696eca8a0a1d4:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES('payment:42161:0xc80406d74c971103340e97b77a0c7ced1a04e1d0b2259e6b893bbd698a2590ec:0','wallet:0x1de60fdb5f1f004b823cbfa219d2a8d4590df989',700000);
INSERT INTO "entries" VALUES('payment:42161:0xc80406d74c971103340e97b77a0c7ced1a04e1d0b2259e6b893bbd698a2590ec:0','received:42161:usdc',-700000);
CREATE TABLE events (
	id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	data TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id), 
	CONSTRAINT uq_events_wallet_sequence UNIQUE (wallet, sequence)
);
INSERT INTO "events" VALUES('evt_1e5d3314a173425dbb1e5d7071929f45','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1,'payment.credited','{"chain_id":42161,"tx_hash":"0x09e9d4fdf0adfeb67f7b07ba8a321b2e5747de7f624a0cdbdc83710945e7ac3c","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752726849);
INSERT INTO "events" VALUES('evt_a061d9cb9e964451b01efb89bc2548a5','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',2,'deployment.ready','{"project_id":"9be0db85-b7e6-4eb7-9368-817139254689","deployment_id":"ecabcfeb-b1bf-40d0-a94f-b312724d8185","endpoint":"http://kept.localhost:45521"}',1795752727262);
INSERT INTO "events" VALUES('evt_cef1214449c547269845a19c5d023624','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',3,'deployment.ready','{"project_id":"9be0db85-b7e6-4eb7-9368-817139254689","deployment_id":"18f4d8eb-9456-4b87-8a49-6b08ef907e4c","endpoint":"http://kept.localhost:45521"}',1795752727528);
INSERT INTO "events" VALUES('evt_aa9c548fe2f6456091e05d4d018d23dd','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',4,'payment.credited','{"chain_id":42161,"tx_hash":"0x07ab5bd223b4cce7b040feec315585dcb603b91fd1dd4323fe0cc1f74d2fcdf5","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752727658);
INSERT INTO "events" VALUES('evt_e3c0164337b54f49968253e3efe67a35','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',5,'deployment.failed','{"project_id":"686c0eb9-f8eb-472d-b952-1ea55d50d224","deployment_id":"54fd7161-ce4f-442a-928a-c79cd82217a4","reason":"`exec node index.js` ended with exit code 1 before it listened on a port","reason_code":"crashed"}',1795752727933);
INSERT INTO "events" VALUES('evt_3269b0ebc5d4489b9e84e3a579710f6c','0x1de60fdb5f1f004b823cbfa219d2a8d4590df989',1,'payment.credited','{"chain_id":42161,"tx_hash":"0x37e97db19765b3dd29d9fdab6f5a012d8ff96bb0282246b1f6f696eca8a0a1d4","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752728104);
INSERT INTO "events" VALUES('evt_adfd16716e904aaa962dabd136366af6','0x1de60fdb5f1f004b823cbfa219d2a8d4590df989',2,'deployment.ready','{"project_id":"25e8627e-0b4b-485e-aa8a-ca3f0955d513","deployment_id":"002d3e8d-8c4b-4f67-880b-099fbd51fa2d","endpoint":"http://other.localhost:45521"}',1795752728603);
INSERT INTO "events" VALUES('evt_48279f6e63804455a72ba83831331dc7','0x1de60fdb5f1f004b823cbfa219d2a8d4590df989',3,'payment.credited','{"chain_id":42161,"tx_hash":"0xc80406d74c971103340e97b77a0c7ced1a04e1d0b2259e6b893bbd698a2590ec","log_index":0,"token":"usdc","amount_token":"700000","amount_usd":0.7}',1795752728828);
CREATE TABLE idempotent_answers (
	wallet TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	request_digest TEXT NOT NULL, 
	answer TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_idempotent_answers PRIMARY KEY (wallet, "key")
);
CREATE TABLE "jobs" (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	subject_id TEXT NOT NULL, 
	status TEXT NOT NULL, 
	step TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	fence INTEGER NOT NULL, 
	run_at_ms BIGINT NOT NULL, 
	lease_until_ms BIGINT NOT NULL, 
	wallet TEXT DEFAULT '' NOT NULL, 
	builds BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT uq_jobs_kind_subject_id UNIQUE (kind, subject_id), 
	CONSTRAINT ck_jobs_status_known CHECK (status IN ('queued', 'running', 'done'))
);
INSERT INTO "jobs" VALUES('5567846a-6f8f-47e4-b9ef-068c6bca9863','deploy','ecabcfeb-b1bf-40d0-a94f-b312724d8185','done','ready',1,1,1795752726851,1795752786854,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0);
INSERT INTO "jobs" VALUES('b2863ff6-da1f-4871-8e79-a24cc848e432','deploy','18f4d8eb-9456-4b87-8a49-6b08ef907e4c','done','ready',1,1,1795752727310,1795752787312,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0);
INSERT INTO "jobs" VALUES('cde16eb3-8949-4c26-adac-77bdc6a4cd72','deploy','54fd7161-ce4f-442a-928a-c79cd82217a4','done','failed',1,1,1795752727659,1795752787660,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0);
INSERT INTO "jobs" VALUES('7c313500-216d-4130-9b8d-4c3fecd7ecfe','deploy','002d3e8d-8c4b-4f67-880b-099fbd51fa2d','done','ready',1,1,1795752728108,1795752788117,'0x1de60fdb5f1f004b823cbfa219d2a8d4590df989',0);
CREATE TABLE meter (
	id INTEGER NOT NULL, 
	billed_ms BIGINT NOT NULL, 
	monotonic_ms BIGINT NOT NULL, 
	boot_id TEXT NOT NULL, 
	CONSTRAINT pk_meter PRIMARY KEY (id)
);
INSERT INTO "meter" VALUES(1,1795752726573,15725750,'4fdc0208-6178-4508-99cc-12101b8dfde5');
CREATE TABLE "payment_uses" (
	chain_id BIGINT NOT NULL, 
	tx_hash TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	project_id TEXT, 
	deployment_id TEXT, 
	CONSTRAINT pk_payment_uses PRIMARY KEY (chain_id, tx_hash, wallet)
);
INSERT INTO "payment_uses" VALUES(42161,'0x09e9d4fdf0adfeb67f7b07ba8a321b2e5747de7f624a0cdbdc83710945e7ac3c','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','9be0db85-b7e6-4eb7-9368-817139254689','ecabcfeb-b1bf-40d0-a94f-b312724d8185');
INSERT INTO "payment_uses" VALUES(42161,'0x07ab5bd223b4cce7b040feec315585dcb603b91fd1dd4323fe0cc1f74d2fcdf5','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','686c0eb9-f8eb-472d-b952-1ea55d50d224','54fd7161-ce4f-442a-928a-c79cd82217a4');
INSERT INTO "payment_uses" VALUES(42161,'0x37e97db19765b3dd29d9fdab6f5a012d8ff96bb0282246b1f6f696eca8a0a1d4','0x1de60fdb5f1f004b823cbfa219d2a8d4590df989','25e8627e-0b4b-485e-aa8a-ca3f0955d513','002d3e8d-8c4b-4f67-880b-099fbd51fa2d');
CREATE TABLE "payments" (
	chain_id BIGINT NOT NULL, 
	tx_hash TEXT NOT NULL, 
	log_index INTEGER NOT NULL, 
	payer TEXT NOT NULL, 
	token TEXT NOT NULL, 
	token_address TEXT NOT NULL, 
	amount_atomic TEXT NOT NULL, 
	credited_micro_usd BIGINT NOT NULL, 
	block_number BIGINT NOT NULL, 
	block_hash TEXT NOT NULL, 
	claimed_at_ms BIGINT NOT NULL, 
	status TEXT DEFAULT 'credited' NOT NULL, 
	finality TEXT DEFAULT 'provisional' NOT NULL, 
	round INTEGER DEFAULT '1' NOT NULL, 
	posting_id TEXT DEFAULT '' NOT NULL, 
	held_reason TEXT, 
	CONSTRAINT pk_payments PRIMARY KEY (chain_id, tx_hash, log_index), 
	CONSTRAINT ck_payments_status_known CHECK (status IN ('credited', 'held', 'reversed', 'refunded')), 
	CONSTRAINT ck_payments_finality_known CHECK (finality IN ('provisional', 'safe', 'finalized'))
);
INSERT INTO "payments" VALUES(42161,'0x09e9d4fdf0adfeb67f7b07ba8a321b2e5747de7f624a0cdbdc83710945e7ac3c',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,2,'0xc08274d6e07952830b25391a652bebb066fbc309ff832ac2a810222b3f1e2340',1795752726849,'credited','finalized',1,'payment:42161:0x09e9d4fdf0adfeb67f7b07ba8a321b2e5747de7f624a0cdbdc83710945e7ac3c:0',NULL);
INSERT INTO "payments" VALUES(42161,'0x07ab5bd223b4cce7b040feec315585dcb603b91fd1dd4323fe0cc1f74d2fcdf5',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,3,'0xcec119eb37e7af0a2d53a660679ffc1ed55bea15a2f1e97d5c3afa36abf01a16',1795752727658,'credited','finalized',1,'payment:42161:0x07ab5bd223b4cce7b040feec315585dcb603b91fd1dd4323fe0cc1f74d2fcdf5:0',NULL);
INSERT INTO "payments" VALUES(42161,'0x37e97db19765b3dd29d9fdab6f5a012d8ff96bb0282246b1f6f696eca8a0a1d4',0,'0x1de60fdb5f1f004b823cbfa219d2a8d4590df989','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,4,'0x1a46e70da662794f4a4a09495cea4e0eee07b83f0b7687f5e7754d41d487d66e',1795752728104,'credited','finalized',1,'payment:42161:0x37e97db19765b3dd29d9fdab6f5a012d8ff96bb0282246b1f6f696eca8a0a1d4:0',NULL);
INSERT INTO "payments" VALUES(42161,'0xc80406d74c971103340e97b77a0c7ced1a04e1d0b2259e6b893bbd698a2590ec',0,'0x1de60fdb5f1f004b823cbfa219d2a8d4590df989','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','700000',700000,5,'0x0692e5776b26ee4c093d12a1afab5f626930e1374ff5f5badf0c748515eac81d',1795752728828,'credited','finalized',1,'payment:42161:0xc80406d74c971103340e97b77a0c7ced1a04e1d0b2259e6b893bbd698a2590ec:0',NULL);
CREATE TABLE postings (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_postings PRIMARY KEY (id)
);
INSERT INTO "postings" VALUES('payment:42161:0x09e9d4fdf0adfeb67f7b07ba8a321b2e5747de7f624a0cdbdc83710945e7ac3c:0','payment',1795752726849);
INSERT INTO "postings" VALUES('payment:42161:0x07ab5bd223b4cce7b040feec315585dcb603b91fd1dd4323fe0cc1f74d2fcdf5:0','payment',1795752727658);
INSERT INTO "postings" VALUES('payment:42161:0x37e97db19765b3dd29d9fdab6f5a012d8ff96bb0282246b1f6f696eca8a0a1d4:0','payment',1795752728104);
INSERT INTO "postings" VALUES('payment:42161:0xc80406d74c971103340e97b77a0c7ced1a04e1d0b2259e6b893bbd698a2590ec:0','payment',1795752728828);
CREATE TABLE "projects" (
	id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	unique_name TEXT NOT NULL, 
	display_name TEXT NOT NULL, 
	description TEXT NOT NULL, 
	status TEXT NOT NULL, 
	monthly_price_micro_usd BIGINT NOT NULL, 
	serving_deployment_id TEXT, 
	created_at_ms BIGINT NOT NULL, 
	deleted_at_ms BIGINT, 
	suspended_at_ms BIGINT, 
	blocked_reason TEXT, 
	asleep_since_ms BIGINT, 
	health_path TEXT DEFAULT '/' NOT NULL, 
	variables TEXT DEFAULT '' NOT NULL, 
	volume BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_projects PRIMARY KEY (id), 
	CONSTRAINT ck_projects_status_known CHECK (status IN ('queued', 'building', 'deploying', 'active', 'failed', 'suspended', 'deleting', 'deleted'))
);
INSERT INTO "projects" VALUES('9be0db85-b7e6-4eb7-9368-817139254689','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','kept','kept','','active',500000,'18f4d8eb-9456-4b87-8a49-6b08ef907e4c',1795752726851,NULL,NULL,NULL,NULL,'/','',0);
INSERT INTO "projects" VALUES('686c0eb9-f8eb-472d-b952-1ea55d50d224','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','broken','broken','','failed',500000,NULL,1795752727659,NULL,NULL,NULL,NULL,'/','',0);
INSERT INTO "projects" VALUES('25e8627e-0b4b-485e-aa8a-ca3f0955d513','0x1de60fdb5f1f004b823cbfa219d2a8d4590df989','other','other','','active',500000,'002d3e8d-8c4b-4f67-880b-099fbd51fa2d',1795752728108,NULL,NULL,NULL,NULL,'/','',0);
CREATE TABLE quotes (
	id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	unique_name TEXT NOT NULL, 
	months INTEGER NOT NULL, 
	price_micro_usd BIGINT NOT NULL, 
	received_micro_usd BIGINT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	expires_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_quotes PRIMARY KEY (id)
);
CREATE TABLE refunds (
	id TEXT NOT NULL, 
	chain_id BIGINT NOT NULL, 
	tx_hash TEXT NOT NULL, 
	log_index INTEGER NOT NULL, 
	recipient TEXT NOT NULL, 
	token_address TEXT NOT NULL, 
	amount_atomic TEXT NOT NULL, 
	debited_micro_usd BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	status TEXT NOT NULL, 
	refund_tx_hash TEXT, 
	created_at_ms BIGINT NOT NULL, 
	ended_at_ms BIGINT, 
	CONSTRAINT pk_refunds PRIMARY KEY (id), 
	CONSTRAINT ck_refunds_status_known CHECK (status IN ('intended', 'sent', 'refunded', 'failed'))
);
CREATE TABLE relay_transactions (
	chain_id BIGINT NOT NULL, 
	tx_hash TEXT NOT NULL, 
	sender TEXT NOT NULL, 
	nonce BIGINT NOT NULL, 
	subject_id TEXT NOT NULL, 
	recipient TEXT NOT NULL, 
	data TEXT NOT NULL, 
	gas_limit BIGINT NOT NULL, 
	max_fee_per_gas TEXT NOT NULL, 
	max_priority_fee_per_gas TEXT NOT NULL, 
	raw TEXT NOT NULL, 
	status TEXT NOT NULL, 
	block_number BIGINT, 
	signed_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_relay_transactions PRIMARY KEY (chain_id, tx_hash), 
	CONSTRAINT ck_relay_transactions_status_known CHECK (status IN ('signed', 'mined', 'reverted', 'replaced'))
);
CREATE TABLE restarts (
	deployment_id TEXT NOT NULL, 
	last_ms BIGINT NOT NULL, 
	history TEXT NOT NULL, 
	CONSTRAINT pk_restarts PRIMARY KEY (deployment_id), 
	CONSTRAINT fk_restarts_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id)
);
CREATE TABLE run_intervals (
	id TEXT NOT NULL, 
	project_id TEXT NOT NULL, 
	started_at_ms BIGINT NOT NULL, 
	ended_at_ms BIGINT, 
	charged_until_ms BIGINT NOT NULL, 
	charged_micro_usd BIGINT NOT NULL, 
	CONSTRAINT pk_run_intervals PRIMARY KEY (id), 
	CONSTRAINT fk_run_intervals_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "run_intervals" VALUES('ad4d562b-2f5e-47ce-a408-6d1c15b12451','9be0db85-b7e6-4eb7-9368-817139254689',1795752727262,NULL,1795752727262,0);
INSERT INTO "run_intervals" VALUES('a9f9f404-d55d-4dc4-a62e-729f5a98af50','25e8627e-0b4b-485e-aa8a-ca3f0955d513',1795752728603,NULL,1795752728603,0);
CREATE TABLE settlements (
	id TEXT NOT NULL, 
	chain_id BIGINT NOT NULL, 
	token TEXT NOT NULL, 
	token_address TEXT NOT NULL, 
	payer TEXT NOT NULL, 
	recipient TEXT NOT NULL, 
	amount_atomic TEXT NOT NULL, 
	valid_after TEXT NOT NULL, 
	valid_before TEXT NOT NULL, 
	nonce TEXT NOT NULL, 
	signature TEXT NOT NULL, 
	from_block BIGINT NOT NULL, 
	unique_name TEXT, 
	status TEXT NOT NULL, 
	tx_hash TEXT, 
	failure TEXT, 
	created_at_ms BIGINT NOT NULL, 
	ended_at_ms BIGINT, 
	CONSTRAINT pk_settlements PRIMARY KEY (id), 
	CONSTRAINT ck_settlements_status_known CHECK (status IN ('intended', 'sent', 'settled', 'failed')), 
	CONSTRAINT uq_settlements_chain_id_token_address_payer_nonce UNIQUE (chain_id, token_address, payer, nonce)
);
CREATE TABLE usage (
	project_id TEXT NOT NULL, 
	hour_ms BIGINT NOT NULL, 
	cpu_ms BIGINT NOT NULL, 
	memory_byte_seconds BIGINT NOT NULL, 
	memory_peak_bytes BIGINT NOT NULL, 
	requests BIGINT NOT NULL, 
	bytes_in BIGINT NOT NULL, 
	bytes_out BIGINT NOT NULL, 
	status_1xx BIGINT NOT NULL, 
	status_2xx BIGINT NOT NULL, 
	status_3xx BIGINT NOT NULL, 
	status_4xx BIGINT NOT NULL, 
	status_5xx BIGINT NOT NULL, 
	CONSTRAINT pk_usage PRIMARY KEY (project_id, hour_ms), 
	CONSTRAINT fk_usage_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "usage" VALUES('25e8627e-0b4b-485e-aa8a-ca3f0955d513',1795752000000,64,0,12038144,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES('9be0db85-b7e6-4eb7-9368-817139254689',1795752000000,62,0,11984896,0,0,0,0,0,0,0,0);
CREATE TABLE usage_counters (
	deployment_id TEXT NOT NULL, 
	cpu_ms BIGINT NOT NULL, 
	CONSTRAINT pk_usage_counters PRIMARY KEY (deployment_id), 
	CONSTRAINT fk_usage_counters_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id)
);
INSERT INTO "usage_counters" VALUES('002d3e8d-8c4b-4f67-880b-099fbd51fa2d',64);
INSERT INTO "usage_counters" VALUES('18f4d8eb-9456-4b87-8a49-6b08ef907e4c',62);
CREATE TABLE "wallets" (
	address TEXT NOT NULL, 
	balance_micro_usd BIGINT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	warned_hours INTEGER, blocked_reason TEXT, 
	CONSTRAINT pk_wallets PRIMARY KEY (address)
);
INSERT INTO "wallets" VALUES('0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1000000,1795752726849,NULL,NULL);
INSERT INTO "wallets" VALUES('0x1de60fdb5f1f004b823cbfa219d2a8d4590df989',1200000,1795752728104,NULL,NULL);
CREATE TABLE watch_cursors (
	chain_id BIGINT NOT NULL, 
	search TEXT NOT NULL, 
	block_number BIGINT NOT NULL, 
	block_hash TEXT NOT NULL, 
	CONSTRAINT pk_watch_cursors PRIMARY KEY (chain_id, search), 
	CONSTRAINT ck_watch_cursors_search_known CHECK (search IN ('confirmed', 'safe'))
);
INSERT INTO "watch_cursors" VALUES(42161,'confirmed',245,'0xc8e3a5ce9287ba0114af0949c163f41e7afc897b2571c6adfc850239de5022f5');
INSERT INTO "watch_cursors" VALUES(42161,'safe',244,'0x39928bd2153bdcaf48dda890b67dcea6326c38ca7fdc530bdfd07b5a905487a2');
INSERT INTO "watch_cursors" VALUES(8453,'confirmed',241,'0xd1917cfe7a369fcd896ee61dd2687098c9275c4d1a1c09efccebd10ab399822e');
INSERT INTO "watch_cursors" VALUES(8453,'safe',240,'0x301cac2c7c89311f4d8bf7435e486da3655f118037ae9719b406e9f71527c075');
CREATE TABLE webhooks (
	wallet TEXT NOT NULL, 
	url TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	next_at_ms BIGINT, 
	CONSTRAINT pk_webhooks PRIMARY KEY (wallet)
);
CREATE INDEX ix_quotes_expires_at_ms ON quotes (expires_at_ms);
CREATE INDEX ix_quotes_unique_name_expires_at_ms ON quotes (unique_name, expires_at_ms);
CREATE INDEX ix_quotes_wallet_expires_at_ms ON quotes (wallet, expires_at_ms);
CREATE INDEX ix_entries_account ON entries (account);
CREATE UNIQUE INDEX uq_run_intervals_open ON run_intervals (project_id) WHERE ended_at_ms IS NULL;
CREATE INDEX ix_events_created_at_ms ON events (created_at_ms);
CREATE INDEX ix_idempotent_answers_created_at_ms ON idempotent_answers (created_at_ms);
CREATE INDEX ix_refunds_chain_id_tx_hash_log_index ON refunds (chain_id, tx_hash, log_index);
CREATE INDEX ix_refunds_status ON refunds (status);
CREATE INDEX ix_relay_transactions_chain_id_sender_nonce ON relay_transactions (chain_id, sender, nonce);
CREATE INDEX ix_relay_transactions_chain_id_sender_status ON relay_transactions (chain_id, sender, status);
CREATE INDEX ix_relay_transactions_subject_id ON relay_transactions (subject_id);
CREATE INDEX ix_settlements_payer_status ON settlements (payer, status);
CREATE INDEX ix_settlements_chain_id_status ON settlements (chain_id, status);
CREATE INDEX ix_settlements_chain_id_tx_hash ON settlements (chain_id, tx_hash);
CREATE INDEX ix_webhooks_next_at_ms ON webhooks (next_at_ms);
CREATE INDEX ix_deliveries_event_id ON deliveries (event_id);
CREATE INDEX ix_deliveries_wallet_status_id ON deliveries (wallet, status, id);
CREATE INDEX ix_payments_payer ON payments (payer);
CREATE INDEX ix_payments_chain_id_finality_block_number ON payments (chain_id, finality, block_number);
CREATE INDEX ix_payments_reversed ON payments (chain_id, tx_hash) WHERE status = 'reversed';
CREATE INDEX ix_run_intervals_ended_at_ms_charged_until_ms ON run_intervals (ended_at_ms, charged_until_ms);
CREATE INDEX ix_domains_next_check_at_ms ON domains (next_check_at_ms);
CREATE INDEX ix_domains_project_id ON domains (project_id);
CREATE UNIQUE INDEX uq_domains_verified ON domains (host) WHERE status = 'verified';
CREATE INDEX ix_usage_hour_ms ON usage (hour_ms);
CREATE INDEX ix_deployments_project_id_created_at_ms ON deployments (project_id, created_at_ms);
CREATE INDEX ix_deployments_status ON deployments (status);
CREATE INDEX ix_jobs_status_run_at_ms ON jobs (status, run_at_ms);
CREATE INDEX ix_projects_wallet_created_at_ms ON projects (wallet, created_at_ms);
CREATE UNIQUE INDEX uq_projects_living_name ON projects (unique_name) WHERE deleted_at_ms IS NULL;
CREATE INDEX ix_projects_blocked ON projects (id) WHERE blocked_reason IS NOT NULL;
COMMIT;
