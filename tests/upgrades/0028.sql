BEGIN TRANSACTION;
CREATE TABLE access_log_position (
	id INTEGER NOT NULL, 
	head TEXT NOT NULL, 
	"offset" BIGINT NOT NULL, 
	CONSTRAINT pk_access_log_position PRIMARY KEY (id)
);
INSERT INTO "access_log_position" VALUES(1,'130cf03aa17c6612eb26cc33c6c2411d',1472);
CREATE TABLE agreements (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_agreements PRIMARY KEY (name)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0028');
CREATE TABLE base_domains (
	domain TEXT NOT NULL, 
	since_ms BIGINT NOT NULL, 
	retired_at_ms BIGINT, 
	CONSTRAINT pk_base_domains PRIMARY KEY (domain)
);
INSERT INTO "base_domains" VALUES('localhost',1795752669553,NULL);
CREATE TABLE build_runs (
	id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	project_id TEXT NOT NULL, 
	deployment_id TEXT NOT NULL, 
	monthly_price_micro_usd BIGINT NOT NULL, 
	started_at_ms BIGINT NOT NULL, 
	ran_ms BIGINT NOT NULL, 
	billed_ms BIGINT NOT NULL, 
	charged_micro_usd BIGINT NOT NULL, 
	CONSTRAINT pk_build_runs PRIMARY KEY (id), 
	CONSTRAINT fk_build_runs_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id), 
	CONSTRAINT fk_build_runs_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "build_runs" VALUES('194aeacf-d77d-47ea-a875-c9c39d796da8','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','ad70a933-0d53-4025-b480-ab5aa37a1941','c0f7d4f8-f3fd-4c2f-a0f3-29f628d33502',2000000,1795752672768,48,0,0);
INSERT INTO "build_runs" VALUES('d5b48f8a-9bea-449e-b8d2-e580ff180675','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','ad70a933-0d53-4025-b480-ab5aa37a1941','e7bfd296-1743-4fe5-a46b-05907945af1c',2000000,1795752673165,54,0,0);
INSERT INTO "build_runs" VALUES('cb0dc1fd-ea78-4e6e-aa19-5b58120883df','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','c69a7efc-d38c-4fc9-9cc6-bb6e60b75463','8ba72fa6-afee-41fa-825b-c6dac12756a5',2000000,1795752673801,47,0,0);
INSERT INTO "build_runs" VALUES('a7ad470a-bfd1-4ac2-bf23-a6796d2a00cb','0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c','2b8346bd-28c9-4568-9bfb-519a62d9906a','7a4c3121-4e5c-4841-a8e6-f2148085557b',2000000,1795752674237,62,0,0);
CREATE TABLE certificates (
	host TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	first_at_ms BIGINT NOT NULL, 
	asked_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_certificates PRIMARY KEY (host)
);
CREATE TABLE configuration_changes (
	id INTEGER NOT NULL, 
	at_ms BIGINT NOT NULL, 
	setting TEXT NOT NULL, 
	"before" TEXT, 
	"after" TEXT, 
	CONSTRAINT pk_configuration_changes PRIMARY KEY (id)
);
INSERT INTO "configuration_changes" VALUES(1,1795752669553,'accept_soft_limits',NULL,'false');
INSERT INTO "configuration_changes" VALUES(2,1795752669553,'acme_directory',NULL,'""');
INSERT INTO "configuration_changes" VALUES(3,1795752669553,'acme_email',NULL,'""');
INSERT INTO "configuration_changes" VALUES(4,1795752669553,'acme_root_file',NULL,'""');
INSERT INTO "configuration_changes" VALUES(5,1795752669553,'allow_networks',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(6,1795752669553,'app_bandwidth_mbit',NULL,'0');
INSERT INTO "configuration_changes" VALUES(7,1795752669553,'app_connections',NULL,'1024');
INSERT INTO "configuration_changes" VALUES(8,1795752669553,'app_connects_per_second',NULL,'200');
INSERT INTO "configuration_changes" VALUES(9,1795752669553,'app_cpu_millis',NULL,'500');
INSERT INTO "configuration_changes" VALUES(10,1795752669553,'app_disk_mib',NULL,'1024');
INSERT INTO "configuration_changes" VALUES(11,1795752669553,'app_memory_mib',NULL,'512');
INSERT INTO "configuration_changes" VALUES(12,1795752669553,'app_pids',NULL,'256');
INSERT INTO "configuration_changes" VALUES(13,1795752669553,'app_subnet',NULL,'"10.201.0.0/16"');
INSERT INTO "configuration_changes" VALUES(14,1795752669553,'app_volume_mib',NULL,'1024');
INSERT INTO "configuration_changes" VALUES(15,1795752669553,'base_domain',NULL,'"localhost"');
INSERT INTO "configuration_changes" VALUES(16,1795752669553,'base_images',NULL,'{}');
INSERT INTO "configuration_changes" VALUES(17,1795752669553,'build_cache_mib',NULL,'1024');
INSERT INTO "configuration_changes" VALUES(18,1795752669553,'build_cache_total_mib',NULL,'10240');
INSERT INTO "configuration_changes" VALUES(19,1795752669553,'build_cpu_millis',NULL,'2000');
INSERT INTO "configuration_changes" VALUES(20,1795752669553,'build_env',NULL,'{}');
INSERT INTO "configuration_changes" VALUES(21,1795752669553,'build_memory_mib',NULL,'2048');
INSERT INTO "configuration_changes" VALUES(22,1795752669553,'build_minutes_per_usd',NULL,'60');
INSERT INTO "configuration_changes" VALUES(23,1795752669553,'build_pids',NULL,'512');
INSERT INTO "configuration_changes" VALUES(24,1795752669553,'build_seconds',NULL,'480');
INSERT INTO "configuration_changes" VALUES(25,1795752669553,'builds_at_once',NULL,'2');
INSERT INTO "configuration_changes" VALUES(26,1795752669553,'builds_per_wallet',NULL,'1');
INSERT INTO "configuration_changes" VALUES(27,1795752669553,'certificates_dir',NULL,'""');
INSERT INTO "configuration_changes" VALUES(28,1795752669553,'certificates_per_wallet',NULL,'20');
INSERT INTO "configuration_changes" VALUES(29,1795752669553,'contact',NULL,'""');
INSERT INTO "configuration_changes" VALUES(30,1795752669553,'content_credentials_file',NULL,'""');
INSERT INTO "configuration_changes" VALUES(31,1795752669553,'content_endpoint',NULL,'""');
INSERT INTO "configuration_changes" VALUES(32,1795752669553,'content_region',NULL,'"us-east-1"');
INSERT INTO "configuration_changes" VALUES(33,1795752669553,'content_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(34,1795752669553,'cpu_month_micro_usd',NULL,'500000');
INSERT INTO "configuration_changes" VALUES(35,1795752669553,'data_dir',NULL,'"/var/lib/moorage"');
INSERT INTO "configuration_changes" VALUES(36,1795752669553,'database_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(37,1795752669553,'deny_networks',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(38,1795752669553,'deploys_at_once',NULL,'8');
INSERT INTO "configuration_changes" VALUES(39,1795752669553,'disk_overcommit',NULL,'2.0');
INSERT INTO "configuration_changes" VALUES(40,1795752669553,'disk_reserve_mib',NULL,'2048');
INSERT INTO "configuration_changes" VALUES(41,1795752669553,'dns_servers',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(42,1795752669553,'docker_host',NULL,'"unix:///var/run/docker.sock"');
INSERT INTO "configuration_changes" VALUES(43,1795752669553,'dockerfile_registries',NULL,'["docker.io","ghcr.io","quay.io","gcr.io","registry.k8s.io","mcr.microsoft.com","public.ecr.aws"]');
INSERT INTO "configuration_changes" VALUES(44,1795752669553,'domains_per_project',NULL,'10');
INSERT INTO "configuration_changes" VALUES(45,1795752669553,'drain_seconds',NULL,'30');
INSERT INTO "configuration_changes" VALUES(46,1795752669553,'failed_retention_days',NULL,'7');
INSERT INTO "configuration_changes" VALUES(47,1795752669553,'former_domains',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(48,1795752669553,'healthy_seconds',NULL,'30');
INSERT INTO "configuration_changes" VALUES(49,1795752669553,'host',NULL,'"127.0.0.1"');
INSERT INTO "configuration_changes" VALUES(50,1795752669553,'image_registry',NULL,'""');
INSERT INTO "configuration_changes" VALUES(51,1795752669553,'internal_authority',NULL,'false');
INSERT INTO "configuration_changes" VALUES(52,1795752669553,'isolation',NULL,'"auto"');
INSERT INTO "configuration_changes" VALUES(53,1795752669553,'kubernetes_apps_per_wallet',NULL,'20');
INSERT INTO "configuration_changes" VALUES(54,1795752669553,'kubernetes_architecture',NULL,'"amd64"');
INSERT INTO "configuration_changes" VALUES(55,1795752669553,'kubernetes_build_host',NULL,'"0.0.0.0"');
INSERT INTO "configuration_changes" VALUES(56,1795752669553,'kubernetes_build_port',NULL,'8404');
INSERT INTO "configuration_changes" VALUES(57,1795752669553,'kubernetes_build_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(58,1795752669553,'kubernetes_config',NULL,'""');
INSERT INTO "configuration_changes" VALUES(59,1795752669553,'kubernetes_context',NULL,'""');
INSERT INTO "configuration_changes" VALUES(60,1795752669553,'kubernetes_gateway_namespace',NULL,'"moorage"');
INSERT INTO "configuration_changes" VALUES(61,1795752669553,'kubernetes_gateway_networks',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(62,1795752669553,'kubernetes_memory_mib',NULL,'0');
INSERT INTO "configuration_changes" VALUES(63,1795752669553,'kubernetes_namespace',NULL,'"moorage"');
INSERT INTO "configuration_changes" VALUES(64,1795752669553,'kubernetes_networks',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(65,1795752669553,'kubernetes_own_image',NULL,'""');
INSERT INTO "configuration_changes" VALUES(66,1795752669553,'kubernetes_pull_credentials',NULL,'""');
INSERT INTO "configuration_changes" VALUES(67,1795752669553,'kubernetes_registry',NULL,'""');
INSERT INTO "configuration_changes" VALUES(68,1795752669553,'kubernetes_registry_credentials',NULL,'""');
INSERT INTO "configuration_changes" VALUES(69,1795752669553,'kubernetes_resolvers',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(70,1795752669553,'kubernetes_runtime_class',NULL,'""');
INSERT INTO "configuration_changes" VALUES(71,1795752669553,'kubernetes_storage_class',NULL,'""');
INSERT INTO "configuration_changes" VALUES(72,1795752669553,'kubernetes_user_namespaces',NULL,'false');
INSERT INTO "configuration_changes" VALUES(73,1795752669553,'listed_wallets_only',NULL,'false');
INSERT INTO "configuration_changes" VALUES(74,1795752669553,'listen_seconds',NULL,'60');
INSERT INTO "configuration_changes" VALUES(75,1795752669553,'local_images',NULL,'false');
INSERT INTO "configuration_changes" VALUES(76,1795752669553,'log_json',NULL,'true');
INSERT INTO "configuration_changes" VALUES(77,1795752669553,'log_level',NULL,'"info"');
INSERT INTO "configuration_changes" VALUES(78,1795752669553,'memory_gib_month_micro_usd',NULL,'500000');
INSERT INTO "configuration_changes" VALUES(79,1795752669553,'memory_overcommit',NULL,'2.0');
INSERT INTO "configuration_changes" VALUES(80,1795752669553,'memory_reserve_mib',NULL,'1024');
INSERT INTO "configuration_changes" VALUES(81,1795752669553,'minimum_charge_micro_usd',NULL,'500000');
INSERT INTO "configuration_changes" VALUES(82,1795752669553,'moving_from',NULL,'""');
INSERT INTO "configuration_changes" VALUES(83,1795752669553,'operator_host',NULL,'"127.0.0.1"');
INSERT INTO "configuration_changes" VALUES(84,1795752669553,'pay_to',NULL,'""');
INSERT INTO "configuration_changes" VALUES(85,1795752669553,'payment_wait_seconds',NULL,'5');
INSERT INTO "configuration_changes" VALUES(86,1795752669553,'port',NULL,'0');
INSERT INTO "configuration_changes" VALUES(87,1795752669553,'projects_per_wallet',NULL,'0');
INSERT INTO "configuration_changes" VALUES(88,1795752669553,'proxy_host',NULL,'"127.0.0.1"');
INSERT INTO "configuration_changes" VALUES(89,1795752669553,'proxy_port',NULL,'0');
INSERT INTO "configuration_changes" VALUES(90,1795752669553,'public_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(91,1795752669553,'refuse_secrets',NULL,'false');
INSERT INTO "configuration_changes" VALUES(92,1795752669553,'relayer_key_file',NULL,'"/var/lib/moorage/relayer.key"');
INSERT INTO "configuration_changes" VALUES(93,1795752669553,'relayer_max_fee_gwei',NULL,'5');
INSERT INTO "configuration_changes" VALUES(94,1795752669553,'relayer_max_gas',NULL,'500000');
INSERT INTO "configuration_changes" VALUES(95,1795752669553,'relayer_reserve_gwei',NULL,'100000');
INSERT INTO "configuration_changes" VALUES(96,1795752669553,'relayer_reverted_gwei',NULL,'1000000');
INSERT INTO "configuration_changes" VALUES(97,1795752669553,'releases_kept',NULL,'3');
INSERT INTO "configuration_changes" VALUES(98,1795752669553,'requests_per_minute',NULL,'100000');
INSERT INTO "configuration_changes" VALUES(99,1795752669553,'require_bound_signatures',NULL,'false');
INSERT INTO "configuration_changes" VALUES(100,1795752669553,'retention_days',NULL,'30');
INSERT INTO "configuration_changes" VALUES(101,1795752669553,'rpc_timeout_seconds',NULL,'5');
INSERT INTO "configuration_changes" VALUES(102,1795752669553,'run_dir',NULL,'""');
INSERT INTO "configuration_changes" VALUES(103,1795752669553,'safe_above_micro_usd',NULL,'100000000');
INSERT INTO "configuration_changes" VALUES(104,1795752669553,'screening_command',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(105,1795752669553,'screening_seconds',NULL,'5');
INSERT INTO "configuration_changes" VALUES(106,1795752669553,'screening_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(107,1795752669553,'secrets_key_file',NULL,'""');
INSERT INTO "configuration_changes" VALUES(108,1795752669553,'sleep_after_seconds',NULL,'0');
INSERT INTO "configuration_changes" VALUES(109,1795752669553,'stop_seconds',NULL,'5');
INSERT INTO "configuration_changes" VALUES(110,1795752669553,'terms_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(111,1795752669553,'tls',NULL,'false');
INSERT INTO "configuration_changes" VALUES(112,1795752669553,'toolchains',NULL,'false');
INSERT INTO "configuration_changes" VALUES(113,1795752669553,'toolchains_mib',NULL,'8192');
INSERT INTO "configuration_changes" VALUES(114,1795752669553,'trusted_proxies',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(115,1795752669553,'usage_days',NULL,'90');
INSERT INTO "configuration_changes" VALUES(116,1795752669553,'valkey_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(117,1795752669553,'visitor_connections',NULL,'512');
INSERT INTO "configuration_changes" VALUES(118,1795752669553,'watch_seconds',NULL,'1');
INSERT INTO "configuration_changes" VALUES(119,1795752669553,'webhook_allow_networks',NULL,'["127.0.0.0/8","::1/128"]');
INSERT INTO "configuration_changes" VALUES(120,1795752669553,'webhook_attempts_at_once',NULL,'64');
INSERT INTO "configuration_changes" VALUES(121,1795752669553,'wildcard_certificate',NULL,'[]');
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
	is_kept BOOLEAN DEFAULT 1 NOT NULL, findings TEXT DEFAULT '[]' NOT NULL, engine TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_deployments PRIMARY KEY (id), 
	CONSTRAINT ck_deployments_status_known CHECK (status IN ('queued', 'building', 'deploying', 'ready', 'failed', 'superseded', 'stopped')), 
	CONSTRAINT fk_deployments_project_id FOREIGN KEY(project_id) REFERENCES projects (id), 
	CONSTRAINT ck_deployments_origin_known CHECK (origin IN ('upload', 'rollback', 'configuration'))
);
INSERT INTO "deployments" VALUES('c0f7d4f8-f3fd-4c2f-a0f3-29f628d33502','ad70a933-0d53-4025-b480-ab5aa37a1941','superseded','4330e160dbfad82ba06c4aa4706911fb0a30573d93c803db11759048c77f017b','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}','',NULL,NULL,'',1795752672733,1795752673104,'upload',NULL,'/','',1795752673667,1,'[]','root');
INSERT INTO "deployments" VALUES('e7bfd296-1743-4fe5-a46b-05907945af1c','ad70a933-0d53-4025-b480-ab5aa37a1941','ready','00c29510c7d35ea476ccd5c948a6b6ada3e49957758e6efba86551fca0306cc6','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"host_tools":{"caddy":"2.11.7"},"install_inputs":[]}','',NULL,NULL,'',1795752673162,1795752673667,'upload',NULL,'/','',NULL,1,'[]','root');
INSERT INTO "deployments" VALUES('8ba72fa6-afee-41fa-825b-c6dac12756a5','c69a7efc-d38c-4fc9-9cc6-bb6e60b75463','failed','8c3fd1effff038ad73fe65f1cbf2c5895a7654026da75e205f3e04360b33b689','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}','','`exec node index.js` ended with exit code 1 before it listened on a port','crashed','',1795752673796,1795752674097,'upload',NULL,'/','',NULL,1,'[]','root');
INSERT INTO "deployments" VALUES('7a4c3121-4e5c-4841-a8e6-f2148085557b','2b8346bd-28c9-4568-9bfb-519a62d9906a','ready','19aa5d6028a4c6c4f5e76577c45e0d2bf87af7062880e46efff3dc858c1347c9','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"host_tools":{"caddy":"2.11.7"},"install_inputs":[]}','',NULL,NULL,'',1795752674226,1795752675853,'upload',NULL,'/','',NULL,1,'[]','root');
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
CREATE TABLE "entries" (
	place INTEGER NOT NULL, 
	posting_id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	amount_micro_usd BIGINT NOT NULL, 
	CONSTRAINT pk_entries PRIMARY KEY (place), 
	CONSTRAINT fk_entries_posting_id FOREIGN KEY(posting_id) REFERENCES postings (id), 
	CONSTRAINT uq_entries_posting_id_account UNIQUE (posting_id, account)
);
INSERT INTO "entries" VALUES(1,'payment:42161:0xaf0e3cff46740d56a56832e7b9281becdac965ed92ddd62160673ec08e130cd9:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES(2,'payment:42161:0xaf0e3cff46740d56a56832e7b9281becdac965ed92ddd62160673ec08e130cd9:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(3,'payment:42161:0x966c07b182e9ec5e2678181798a8582f833b9a86d7be3e5fd56bd9febf095f4b:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES(4,'payment:42161:0x966c07b182e9ec5e2678181798a8582f833b9a86d7be3e5fd56bd9febf095f4b:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(5,'payment:42161:0x1c1814c09129dd968bd9c1be7a3f9357c13d05525d64b0a81160aea295309d8d:0','wallet:0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c',500000);
INSERT INTO "entries" VALUES(6,'payment:42161:0x1c1814c09129dd968bd9c1be7a3f9357c13d05525d64b0a81160aea295309d8d:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(7,'payment:42161:0x51fe3b8e8248e17714018f025621782f444131812d028d82d764522422720313:0','wallet:0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c',700000);
INSERT INTO "entries" VALUES(8,'payment:42161:0x51fe3b8e8248e17714018f025621782f444131812d028d82d764522422720313:0','received:42161:usdc',-700000);
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
INSERT INTO "events" VALUES('evt_90e071ca0f8f4a3eb03dc6cc96e200c3','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1,'payment.credited','{"chain_id":42161,"tx_hash":"0xaf0e3cff46740d56a56832e7b9281becdac965ed92ddd62160673ec08e130cd9","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752672704);
INSERT INTO "events" VALUES('evt_f6f880f905c142ae89b67654aedebdfb','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',2,'deployment.ready','{"project_id":"ad70a933-0d53-4025-b480-ab5aa37a1941","deployment_id":"c0f7d4f8-f3fd-4c2f-a0f3-29f628d33502","endpoint":"http://kept.localhost:41375"}',1795752673104);
INSERT INTO "events" VALUES('evt_6ac56c698a9f44ec9f9ff40e3ea51418','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',3,'deployment.ready','{"project_id":"ad70a933-0d53-4025-b480-ab5aa37a1941","deployment_id":"e7bfd296-1743-4fe5-a46b-05907945af1c","endpoint":"http://kept.localhost:41375"}',1795752673667);
INSERT INTO "events" VALUES('evt_bf21fad54a524285a146b2dfebe21c44','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',4,'payment.credited','{"chain_id":42161,"tx_hash":"0x966c07b182e9ec5e2678181798a8582f833b9a86d7be3e5fd56bd9febf095f4b","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752673785);
INSERT INTO "events" VALUES('evt_7e5911cf73b64772ba74a2023c775a1e','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',5,'deployment.failed','{"project_id":"c69a7efc-d38c-4fc9-9cc6-bb6e60b75463","deployment_id":"8ba72fa6-afee-41fa-825b-c6dac12756a5","reason":"`exec node index.js` ended with exit code 1 before it listened on a port","reason_code":"crashed"}',1795752674097);
INSERT INTO "events" VALUES('evt_f136210bfa8b42e58ce107b2c0b45a5b','0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c',1,'payment.credited','{"chain_id":42161,"tx_hash":"0x1c1814c09129dd968bd9c1be7a3f9357c13d05525d64b0a81160aea295309d8d","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752674219);
INSERT INTO "events" VALUES('evt_ebb3b182ea06473d8edb54a510ab84bb','0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c',2,'deployment.ready','{"project_id":"2b8346bd-28c9-4568-9bfb-519a62d9906a","deployment_id":"7a4c3121-4e5c-4841-a8e6-f2148085557b","endpoint":"http://other.localhost:41375"}',1795752675853);
INSERT INTO "events" VALUES('evt_6be00276004a4df886751a78a639cd0c','0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c',3,'payment.credited','{"chain_id":42161,"tx_hash":"0x51fe3b8e8248e17714018f025621782f444131812d028d82d764522422720313","log_index":0,"token":"usdc","amount_token":"700000","amount_usd":0.7}',1795752676657);
CREATE TABLE evictions (
	project_id TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_evictions PRIMARY KEY (project_id), 
	CONSTRAINT fk_evictions_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE gateways (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	fingerprints TEXT NOT NULL, 
	seen_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_gateways PRIMARY KEY (id)
);
CREATE TABLE grants (
	id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	amount_micro_usd BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	undone_at_ms BIGINT, 
	CONSTRAINT pk_grants PRIMARY KEY (id)
);
CREATE TABLE idempotent_answers (
	wallet TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	request_digest TEXT NOT NULL, 
	answer TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, claim_id TEXT DEFAULT '' NOT NULL, lease_until_ms BIGINT DEFAULT '0' NOT NULL, outcome TEXT DEFAULT '' NOT NULL, 
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
	builds BOOLEAN DEFAULT 0 NOT NULL, holder TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT uq_jobs_kind_subject_id UNIQUE (kind, subject_id), 
	CONSTRAINT ck_jobs_status_known CHECK (status IN ('queued', 'running', 'done'))
);
INSERT INTO "jobs" VALUES('aad0258e-59c5-43a0-a3ad-a679e00fee03','deploy','c0f7d4f8-f3fd-4c2f-a0f3-29f628d33502','done','ready',1,1,1795752672733,1795752732764,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0,'e0f4b39dc54449ccbd8801cf4ebb1081');
INSERT INTO "jobs" VALUES('6810a364-5b04-4ff1-a73a-ff4cc362762b','deploy','e7bfd296-1743-4fe5-a46b-05907945af1c','done','ready',1,1,1795752673162,1795752733164,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0,'e0f4b39dc54449ccbd8801cf4ebb1081');
INSERT INTO "jobs" VALUES('5bff1d06-fa4c-486e-a292-29e591cbb3cf','deploy','8ba72fa6-afee-41fa-825b-c6dac12756a5','done','failed',1,1,1795752673796,1795752733800,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0,'e0f4b39dc54449ccbd8801cf4ebb1081');
INSERT INTO "jobs" VALUES('3b212202-15ae-4f46-bc62-b30e973f109d','deploy','7a4c3121-4e5c-4841-a8e6-f2148085557b','done','ready',1,1,1795752674226,1795752734237,'0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c',0,'e0f4b39dc54449ccbd8801cf4ebb1081');
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	expires_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('settlements','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('search of arbitrum','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('search of base','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('finality of arbitrum','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('refunds of arbitrum','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('finality of base','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('refunds of base','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('suspension','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('operator''s log','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('domains','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
INSERT INTO "leases" VALUES('evictions','e0f4b39dc54449ccbd8801cf4ebb1081',1,0);
CREATE TABLE manage_tokens (
	digest TEXT NOT NULL, 
	project_id TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_manage_tokens PRIMARY KEY (digest), 
	CONSTRAINT fk_manage_tokens_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE meters (
	gateway TEXT NOT NULL, 
	billed_ms BIGINT NOT NULL, 
	monotonic_ms BIGINT NOT NULL, 
	boot_id TEXT NOT NULL, 
	CONSTRAINT pk_meters PRIMARY KEY (gateway)
);
INSERT INTO "meters" VALUES('e0f4b39dc54449ccbd8801cf4ebb1081',1795752675854,15675030,'4fdc0208-6178-4508-99cc-12101b8dfde5');
CREATE TABLE names (
	unique_name TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	held_until_ms BIGINT, 
	CONSTRAINT pk_names PRIMARY KEY (unique_name)
);
INSERT INTO "names" VALUES('kept','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',NULL);
INSERT INTO "names" VALUES('broken','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',NULL);
INSERT INTO "names" VALUES('other','0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c',NULL);
CREATE TABLE notices (
	kind TEXT NOT NULL, 
	text TEXT NOT NULL, 
	since_ms BIGINT NOT NULL, 
	CONSTRAINT pk_notices PRIMARY KEY (kind)
);
CREATE TABLE operator_acts (
	id INTEGER NOT NULL, 
	at_ms BIGINT NOT NULL, 
	who TEXT NOT NULL, 
	act TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_operator_acts PRIMARY KEY (id)
);
CREATE TABLE "payment_uses" (
	chain_id BIGINT NOT NULL, 
	tx_hash TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	project_id TEXT, 
	deployment_id TEXT, 
	CONSTRAINT pk_payment_uses PRIMARY KEY (chain_id, tx_hash, wallet)
);
INSERT INTO "payment_uses" VALUES(42161,'0xaf0e3cff46740d56a56832e7b9281becdac965ed92ddd62160673ec08e130cd9','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','ad70a933-0d53-4025-b480-ab5aa37a1941','c0f7d4f8-f3fd-4c2f-a0f3-29f628d33502');
INSERT INTO "payment_uses" VALUES(42161,'0x966c07b182e9ec5e2678181798a8582f833b9a86d7be3e5fd56bd9febf095f4b','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','c69a7efc-d38c-4fc9-9cc6-bb6e60b75463','8ba72fa6-afee-41fa-825b-c6dac12756a5');
INSERT INTO "payment_uses" VALUES(42161,'0x1c1814c09129dd968bd9c1be7a3f9357c13d05525d64b0a81160aea295309d8d','0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c','2b8346bd-28c9-4568-9bfb-519a62d9906a','7a4c3121-4e5c-4841-a8e6-f2148085557b');
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
	held_reason TEXT, recipient TEXT, 
	CONSTRAINT pk_payments PRIMARY KEY (chain_id, tx_hash, log_index), 
	CONSTRAINT ck_payments_status_known CHECK (status IN ('credited', 'held', 'reversed', 'refunded')), 
	CONSTRAINT ck_payments_finality_known CHECK (finality IN ('provisional', 'safe', 'finalized'))
);
INSERT INTO "payments" VALUES(42161,'0xaf0e3cff46740d56a56832e7b9281becdac965ed92ddd62160673ec08e130cd9',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,2,'0xbe5ed40dbec89e15a30ed1ccaed4d15f6e03c7251e0c50de07ce2e0444c02a45',1795752672704,'credited','finalized',1,'payment:42161:0xaf0e3cff46740d56a56832e7b9281becdac965ed92ddd62160673ec08e130cd9:0',NULL,'0xb674972c57650555035dc5dfba2c9be19a1134e4');
INSERT INTO "payments" VALUES(42161,'0x966c07b182e9ec5e2678181798a8582f833b9a86d7be3e5fd56bd9febf095f4b',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,3,'0x7afbaf6da57b578bcf7cdc4716c26022f39421b08cf59580b3b67b45728f6edf',1795752673785,'credited','finalized',1,'payment:42161:0x966c07b182e9ec5e2678181798a8582f833b9a86d7be3e5fd56bd9febf095f4b:0',NULL,'0xb674972c57650555035dc5dfba2c9be19a1134e4');
INSERT INTO "payments" VALUES(42161,'0x1c1814c09129dd968bd9c1be7a3f9357c13d05525d64b0a81160aea295309d8d',0,'0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,4,'0xbd1b798ba9a76284e9ff3ace26e172f82a47b9228868f4acad256340dea44d91',1795752674219,'credited','finalized',1,'payment:42161:0x1c1814c09129dd968bd9c1be7a3f9357c13d05525d64b0a81160aea295309d8d:0',NULL,'0xb674972c57650555035dc5dfba2c9be19a1134e4');
INSERT INTO "payments" VALUES(42161,'0x51fe3b8e8248e17714018f025621782f444131812d028d82d764522422720313',0,'0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','700000',700000,5,'0x3d1ee8bdd02b669b5a647088fa46eecda701c41984fd1417ff6369762a68cfde',1795752676657,'credited','finalized',1,'payment:42161:0x51fe3b8e8248e17714018f025621782f444131812d028d82d764522422720313:0',NULL,'0xb674972c57650555035dc5dfba2c9be19a1134e4');
CREATE TABLE postings (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_postings PRIMARY KEY (id)
);
INSERT INTO "postings" VALUES('payment:42161:0xaf0e3cff46740d56a56832e7b9281becdac965ed92ddd62160673ec08e130cd9:0','payment',1795752672704);
INSERT INTO "postings" VALUES('payment:42161:0x966c07b182e9ec5e2678181798a8582f833b9a86d7be3e5fd56bd9febf095f4b:0','payment',1795752673785);
INSERT INTO "postings" VALUES('payment:42161:0x1c1814c09129dd968bd9c1be7a3f9357c13d05525d64b0a81160aea295309d8d:0','payment',1795752674219);
INSERT INTO "postings" VALUES('payment:42161:0x51fe3b8e8248e17714018f025621782f444131812d028d82d764522422720313:0','payment',1795752676657);
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
	volume BOOLEAN DEFAULT 0 NOT NULL, no_space_since_ms BIGINT, down_since_ms BIGINT, 
	CONSTRAINT pk_projects PRIMARY KEY (id), 
	CONSTRAINT ck_projects_status_known CHECK (status IN ('queued', 'building', 'deploying', 'active', 'failed', 'suspended', 'deleting', 'deleted'))
);
INSERT INTO "projects" VALUES('ad70a933-0d53-4025-b480-ab5aa37a1941','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','kept','kept','','active',500000,'e7bfd296-1743-4fe5-a46b-05907945af1c',1795752672733,NULL,NULL,NULL,NULL,'/','',0,NULL,NULL);
INSERT INTO "projects" VALUES('c69a7efc-d38c-4fc9-9cc6-bb6e60b75463','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','broken','broken','','failed',500000,NULL,1795752673796,NULL,NULL,NULL,NULL,'/','',0,NULL,NULL);
INSERT INTO "projects" VALUES('2b8346bd-28c9-4568-9bfb-519a62d9906a','0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c','other','other','','active',500000,'7a4c3121-4e5c-4841-a8e6-f2148085557b',1795752674226,NULL,NULL,NULL,NULL,'/','',0,NULL,NULL);
CREATE TABLE quotes (
	id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	unique_name TEXT NOT NULL, 
	months INTEGER NOT NULL, 
	price_micro_usd BIGINT NOT NULL, 
	received_micro_usd BIGINT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	expires_at_ms BIGINT NOT NULL, promised_at_ms BIGINT DEFAULT '0' NOT NULL, counted_micro_usd BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_quotes PRIMARY KEY (id)
);
CREATE TABLE recipients (
	address TEXT NOT NULL, 
	since_ms BIGINT NOT NULL, retired_at_ms BIGINT, 
	CONSTRAINT pk_recipients PRIMARY KEY (address)
);
INSERT INTO "recipients" VALUES('0xb674972c57650555035dc5dfba2c9be19a1134e4',1795752671081,NULL);
CREATE TABLE "refunds" (
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
	finality TEXT DEFAULT 'provisional' NOT NULL, 
	CONSTRAINT pk_refunds PRIMARY KEY (id), 
	CONSTRAINT ck_refunds_status_known CHECK (status IN ('intended', 'sent', 'refunded', 'failed')), 
	CONSTRAINT ck_refunds_finality_known CHECK (finality IN ('provisional', 'safe', 'finalized'))
);
CREATE TABLE relay_nonces (
	chain_id BIGINT NOT NULL, 
	sender TEXT NOT NULL, 
	nonce BIGINT NOT NULL, 
	subject_id TEXT NOT NULL, 
	CONSTRAINT pk_relay_nonces PRIMARY KEY (chain_id, sender, nonce)
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
	charged_micro_usd BIGINT NOT NULL, monthly_price_micro_usd BIGINT, 
	CONSTRAINT pk_run_intervals PRIMARY KEY (id), 
	CONSTRAINT fk_run_intervals_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "run_intervals" VALUES('48cdbbe8-68c1-466b-86ee-e60fdfdba72b','ad70a933-0d53-4025-b480-ab5aa37a1941',1795752673107,NULL,1795752673107,0,500000);
INSERT INTO "run_intervals" VALUES('6f654110-e202-4ed5-99f0-63ff7f7ab162','2b8346bd-28c9-4568-9bfb-519a62d9906a',1795752675854,NULL,1795752675854,0,500000);
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
	ended_at_ms BIGINT, open_body TEXT, 
	CONSTRAINT pk_settlements PRIMARY KEY (id), 
	CONSTRAINT ck_settlements_status_known CHECK (status IN ('intended', 'sent', 'settled', 'failed')), 
	CONSTRAINT uq_settlements_chain_id_token_address_payer_nonce UNIQUE (chain_id, token_address, payer, nonce)
);
CREATE TABLE upkeep (
	kind TEXT NOT NULL, 
	at_ms BIGINT NOT NULL, 
	wrong INTEGER NOT NULL, 
	pending INTEGER NOT NULL, 
	unknown INTEGER NOT NULL, 
	CONSTRAINT pk_upkeep PRIMARY KEY (kind)
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
INSERT INTO "usage" VALUES('2b8346bd-28c9-4568-9bfb-519a62d9906a',1795752000000,64,0,12238848,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES('ad70a933-0d53-4025-b480-ab5aa37a1941',1795752000000,65,0,11624448,0,0,0,0,0,0,0,0);
CREATE TABLE usage_counters (
	deployment_id TEXT NOT NULL, 
	cpu_ms BIGINT NOT NULL, cpu_millis BIGINT, memory_bytes BIGINT, 
	CONSTRAINT pk_usage_counters PRIMARY KEY (deployment_id), 
	CONSTRAINT fk_usage_counters_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id)
);
INSERT INTO "usage_counters" VALUES('7a4c3121-4e5c-4841-a8e6-f2148085557b',64,NULL,NULL);
INSERT INTO "usage_counters" VALUES('e7bfd296-1743-4fe5-a46b-05907945af1c',65,NULL,NULL);
CREATE TABLE wallet_rules (
	wallet TEXT NOT NULL, 
	is_listed BOOLEAN DEFAULT 0 NOT NULL, 
	max_projects INTEGER, 
	CONSTRAINT pk_wallet_rules PRIMARY KEY (wallet)
);
CREATE TABLE "wallets" (
	address TEXT NOT NULL, 
	balance_micro_usd BIGINT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	warned_hours INTEGER, blocked_reason TEXT, 
	CONSTRAINT pk_wallets PRIMARY KEY (address)
);
INSERT INTO "wallets" VALUES('0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1000000,1795752672704,NULL,NULL);
INSERT INTO "wallets" VALUES('0x1997b53c6b361b8d8bd269ffb23a0b1bb99fc18c',1200000,1795752674219,NULL,NULL);
CREATE TABLE watch_cursors (
	chain_id BIGINT NOT NULL, 
	search TEXT NOT NULL, 
	block_number BIGINT NOT NULL, 
	block_hash TEXT NOT NULL, 
	CONSTRAINT pk_watch_cursors PRIMARY KEY (chain_id, search), 
	CONSTRAINT ck_watch_cursors_search_known CHECK (search IN ('confirmed', 'safe'))
);
INSERT INTO "watch_cursors" VALUES(8453,'confirmed',241,'0x636183af8ffb3a618eb35969bde16f503ddafd448c5d7e76d105007ecb4f1901');
INSERT INTO "watch_cursors" VALUES(8453,'safe',240,'0xdc0739b39ef41fd25dd26a865565f7b4dfb6e52385c20f0d6f7f788640dcede2');
INSERT INTO "watch_cursors" VALUES(42161,'confirmed',245,'0x0f793c52f646020b00a49287b7dfb6f2f3e3496386cb5cd4c82d427f14f5f9b4');
INSERT INTO "watch_cursors" VALUES(42161,'safe',244,'0xa74991ca03a177df207327d67f375c02d6e8875b1882405217c5c47d7d2f6cce');
CREATE TABLE webhooks (
	wallet TEXT NOT NULL, 
	url TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	next_at_ms BIGINT, lease_until_ms BIGINT DEFAULT '0' NOT NULL, fence BIGINT DEFAULT '0' NOT NULL, holder TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_webhooks PRIMARY KEY (wallet)
);
CREATE INDEX ix_quotes_expires_at_ms ON quotes (expires_at_ms);
CREATE INDEX ix_quotes_unique_name_expires_at_ms ON quotes (unique_name, expires_at_ms);
CREATE INDEX ix_quotes_wallet_expires_at_ms ON quotes (wallet, expires_at_ms);
CREATE UNIQUE INDEX uq_run_intervals_open ON run_intervals (project_id) WHERE ended_at_ms IS NULL;
CREATE INDEX ix_events_created_at_ms ON events (created_at_ms);
CREATE INDEX ix_idempotent_answers_created_at_ms ON idempotent_answers (created_at_ms);
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
CREATE INDEX ix_deployments_status ON deployments (status);
CREATE INDEX ix_deployments_project_id_created_at_ms ON deployments (project_id, created_at_ms);
CREATE INDEX ix_jobs_status_run_at_ms ON jobs (status, run_at_ms);
CREATE INDEX ix_projects_wallet_created_at_ms ON projects (wallet, created_at_ms);
CREATE UNIQUE INDEX uq_projects_living_name ON projects (unique_name) WHERE deleted_at_ms IS NULL;
CREATE INDEX ix_projects_blocked ON projects (id) WHERE blocked_reason IS NOT NULL;
CREATE INDEX ix_refunds_status ON refunds (status);
CREATE INDEX ix_refunds_chain_id_tx_hash_log_index ON refunds (chain_id, tx_hash, log_index);
CREATE INDEX ix_build_runs_wallet ON build_runs (wallet);
CREATE INDEX ix_certificates_wallet_first_at_ms ON certificates (wallet, first_at_ms);
CREATE INDEX ix_names_wallet_held_until_ms ON names (wallet, held_until_ms);
CREATE UNIQUE INDEX uq_deployments_under_way ON deployments (project_id) WHERE status IN ('queued', 'building', 'deploying');
CREATE INDEX ix_entries_account ON entries (account);
CREATE INDEX ix_manage_tokens_project_id_created_at_ms ON manage_tokens (project_id, created_at_ms);
CREATE INDEX ix_configuration_changes_setting_id ON configuration_changes (setting, id);
CREATE INDEX ix_operator_acts_at_ms ON operator_acts (at_ms);
CREATE INDEX ix_grants_wallet ON grants (wallet);
CREATE INDEX ix_evictions_at_ms ON evictions (at_ms);
COMMIT;
