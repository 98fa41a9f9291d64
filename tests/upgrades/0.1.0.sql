PRAGMA application_id=1297043268;
BEGIN TRANSACTION;
CREATE TABLE access_log_position (
	id INTEGER NOT NULL, 
	head TEXT NOT NULL, 
	"offset" BIGINT NOT NULL, 
	CONSTRAINT pk_access_log_position PRIMARY KEY (id)
);
INSERT INTO "access_log_position" VALUES(1,'01796111470811985521.log:188',188);
CREATE TABLE acme_challenges (
	token TEXT NOT NULL, 
	host TEXT NOT NULL, 
	answer TEXT NOT NULL, 
	expires_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_acme_challenges PRIMARY KEY (token)
);
CREATE TABLE agreements (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_agreements PRIMARY KEY (name)
);
INSERT INTO "agreements" VALUES('receipts','[["0x1a88800dc2347c0efda361c2f9e68ad03ca7bb92",1796111469259,"v1.ad39b5f0.y_vES3YYhWK-xucfo-RaERu4HBuJWoJQ1Bs2Qp4snpZiRYZRJkf4tc5oVfx5piJpj9GVWyvgwgmZmAzB3C3MOHMP8SVeBfDD5nbBQv-dZnimWcbPd-LD3RT_EUE="]]');
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO "alembic_version" VALUES('release_1');
CREATE TABLE alert_channels (
	name TEXT NOT NULL, 
	message TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	next_ms BIGINT NOT NULL, 
	error TEXT NOT NULL, 
	delivered_ms BIGINT, 
	digest_ms BIGINT NOT NULL, 
	CONSTRAINT pk_alert_channels PRIMARY KEY (name), 
	CONSTRAINT ck_alert_channels_name_known CHECK (name IN ('webhook', 'mail'))
);
CREATE TABLE alerts (
	id TEXT NOT NULL, 
	gateway TEXT NOT NULL, 
	rule TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	summary TEXT NOT NULL, 
	began_ms BIGINT NOT NULL, 
	fired_ms BIGINT, 
	well_ms BIGINT, 
	ended_ms BIGINT, 
	told_by_webhook TEXT DEFAULT '' NOT NULL, 
	told_by_mail TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_alerts PRIMARY KEY (id), 
	CONSTRAINT ck_alerts_told_by_webhook_known CHECK (told_by_webhook IN ('', 'firing', 'resolved')), 
	CONSTRAINT ck_alerts_told_by_mail_known CHECK (told_by_mail IN ('', 'firing', 'resolved'))
);
CREATE TABLE authorities (
	directory TEXT NOT NULL, 
	sealed_key TEXT NOT NULL, 
	account TEXT NOT NULL, 
	CONSTRAINT pk_authorities PRIMARY KEY (directory)
);
CREATE TABLE base_domains (
	domain TEXT NOT NULL, 
	since_ms BIGINT NOT NULL, 
	retired_at_ms BIGINT, 
	CONSTRAINT pk_base_domains PRIMARY KEY (domain)
);
INSERT INTO "base_domains" VALUES('localhost',1796111469286,NULL);
CREATE TABLE certificates (
	host TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	first_at_ms BIGINT NOT NULL, 
	asked_at_ms BIGINT NOT NULL, 
	chain TEXT, 
	sealed_key TEXT, 
	pem_sha256 TEXT, 
	not_before_ms BIGINT, 
	not_after_ms BIGINT, 
	authority TEXT, 
	order_at_ms BIGINT, 
	ordered_until_ms BIGINT, 
	fence INTEGER DEFAULT '0' NOT NULL, 
	ordered_at_ms BIGINT, 
	failures INTEGER DEFAULT '0' NOT NULL, 
	problem TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_certificates PRIMARY KEY (host)
);
CREATE TABLE chain_marks (
	chain_id BIGINT NOT NULL, 
	subject TEXT NOT NULL, 
	block_number BIGINT NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_chain_marks PRIMARY KEY (chain_id, subject)
);
INSERT INTO "chain_marks" VALUES(8453,'search:confirmed',1,'0xaaeb68c004d82b51f6273bcf715e8382e26274bcf1790de7704dfa8d3497f364');
INSERT INTO "chain_marks" VALUES(42161,'search:confirmed',105,'0x91f3830e7718b5fd338faa3a60f80716f45c43354eb2baf314f818565797819f');
INSERT INTO "chain_marks" VALUES(8453,'search:safe',1,'0xaaeb68c004d82b51f6273bcf715e8382e26274bcf1790de7704dfa8d3497f364');
INSERT INTO "chain_marks" VALUES(42161,'search:safe',104,'0x12fa2bef938ca6c4a5805178799e07fcaa7ba793b21021b341cad1db97fbd81c');
CREATE TABLE configuration_changes (
	id INTEGER NOT NULL, 
	at_ms BIGINT NOT NULL, 
	setting TEXT NOT NULL, 
	"before" TEXT, 
	"after" TEXT, 
	CONSTRAINT pk_configuration_changes PRIMARY KEY (id)
);
INSERT INTO "configuration_changes" VALUES(1,1796111469286,'acme_directories',NULL,'["https://acme-v02.api.letsencrypt.org/directory"]');
INSERT INTO "configuration_changes" VALUES(2,1796111469286,'acme_dns_hook',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(3,1796111469286,'acme_root_file',NULL,'""');
INSERT INTO "configuration_changes" VALUES(4,1796111469286,'alert_digest',NULL,'false');
INSERT INTO "configuration_changes" VALUES(5,1796111469286,'alert_mail_to',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(6,1796111469286,'alert_webhook',NULL,'""');
INSERT INTO "configuration_changes" VALUES(7,1796111469286,'alert_webhook_secret_file',NULL,'""');
INSERT INTO "configuration_changes" VALUES(8,1796111469286,'allow_networks',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(9,1796111469286,'app_bandwidth_mbit',NULL,'0');
INSERT INTO "configuration_changes" VALUES(10,1796111469286,'app_cpu_millis',NULL,'500');
INSERT INTO "configuration_changes" VALUES(11,1796111469286,'app_disk_mib',NULL,'1024');
INSERT INTO "configuration_changes" VALUES(12,1796111469286,'app_memory_mib',NULL,'512');
INSERT INTO "configuration_changes" VALUES(13,1796111469286,'app_subnet',NULL,'"10.201.0.0/16"');
INSERT INTO "configuration_changes" VALUES(14,1796111469286,'app_volume_mib',NULL,'64');
INSERT INTO "configuration_changes" VALUES(15,1796111469286,'backup_credentials_file',NULL,'""');
INSERT INTO "configuration_changes" VALUES(16,1796111469286,'backup_keep_days',NULL,'90');
INSERT INTO "configuration_changes" VALUES(17,1796111469286,'backup_recipient',NULL,'""');
INSERT INTO "configuration_changes" VALUES(18,1796111469286,'backup_to',NULL,'""');
INSERT INTO "configuration_changes" VALUES(19,1796111469286,'base_domain',NULL,'"localhost"');
INSERT INTO "configuration_changes" VALUES(20,1796111469286,'base_images',NULL,'{}');
INSERT INTO "configuration_changes" VALUES(21,1796111469286,'build_env',NULL,'{}');
INSERT INTO "configuration_changes" VALUES(22,1796111469286,'build_memory_mib',NULL,'2048');
INSERT INTO "configuration_changes" VALUES(23,1796111469286,'build_minutes_per_usd',NULL,'60');
INSERT INTO "configuration_changes" VALUES(24,1796111469286,'build_seconds',NULL,'480');
INSERT INTO "configuration_changes" VALUES(25,1796111469286,'builds_at_once',NULL,'2');
INSERT INTO "configuration_changes" VALUES(26,1796111469286,'compensate',NULL,'true');
INSERT INTO "configuration_changes" VALUES(27,1796111469286,'contact',NULL,'""');
INSERT INTO "configuration_changes" VALUES(28,1796111469286,'content_credentials_file',NULL,'""');
INSERT INTO "configuration_changes" VALUES(29,1796111469286,'content_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(30,1796111469286,'cpu_month_micro_usd',NULL,'500000');
INSERT INTO "configuration_changes" VALUES(31,1796111469286,'data_dir',NULL,'"/var/lib/moorage"');
INSERT INTO "configuration_changes" VALUES(32,1796111469286,'database_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(33,1796111469286,'deny_networks',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(34,1796111469286,'disk_gib_month_micro_usd',NULL,'100000');
INSERT INTO "configuration_changes" VALUES(35,1796111469286,'disk_overcommit',NULL,'100.0');
INSERT INTO "configuration_changes" VALUES(36,1796111469286,'disk_reserve_mib',NULL,'256');
INSERT INTO "configuration_changes" VALUES(37,1796111469286,'dns_servers',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(38,1796111469286,'docker_host',NULL,'"unix:///var/run/docker.sock"');
INSERT INTO "configuration_changes" VALUES(39,1796111469286,'dockerfile_registries',NULL,'["docker.io","ghcr.io","quay.io","gcr.io","registry.k8s.io","mcr.microsoft.com","public.ecr.aws"]');
INSERT INTO "configuration_changes" VALUES(40,1796111469286,'isolation',NULL,'"auto"');
INSERT INTO "configuration_changes" VALUES(41,1796111469286,'issuer',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(42,1796111469286,'kubernetes_builder',NULL,'""');
INSERT INTO "configuration_changes" VALUES(43,1796111469286,'kubernetes_config',NULL,'""');
INSERT INTO "configuration_changes" VALUES(44,1796111469286,'kubernetes_credentials',NULL,'""');
INSERT INTO "configuration_changes" VALUES(45,1796111469286,'kubernetes_gateway_networks',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(46,1796111469286,'kubernetes_namespace',NULL,'"moorage"');
INSERT INTO "configuration_changes" VALUES(47,1796111469286,'kubernetes_own_image',NULL,'""');
INSERT INTO "configuration_changes" VALUES(48,1796111469286,'kubernetes_registry',NULL,'""');
INSERT INTO "configuration_changes" VALUES(49,1796111469286,'kubernetes_resolvers',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(50,1796111469286,'kubernetes_runtime_class',NULL,'""');
INSERT INTO "configuration_changes" VALUES(51,1796111469286,'kubernetes_storage_class',NULL,'""');
INSERT INTO "configuration_changes" VALUES(52,1796111469286,'kubernetes_user_namespaces',NULL,'false');
INSERT INTO "configuration_changes" VALUES(53,1796111469286,'listed_wallets_only',NULL,'false');
INSERT INTO "configuration_changes" VALUES(54,1796111469286,'listen',NULL,'"127.0.0.1:0"');
INSERT INTO "configuration_changes" VALUES(55,1796111469286,'listen_seconds',NULL,'60');
INSERT INTO "configuration_changes" VALUES(56,1796111469286,'log_level',NULL,'"info"');
INSERT INTO "configuration_changes" VALUES(57,1796111469286,'memory_gib_month_micro_usd',NULL,'500000');
INSERT INTO "configuration_changes" VALUES(58,1796111469286,'memory_overcommit',NULL,'2.0');
INSERT INTO "configuration_changes" VALUES(59,1796111469286,'memory_reserve_mib',NULL,'1024');
INSERT INTO "configuration_changes" VALUES(60,1796111469286,'min_sleep_after_seconds',NULL,'60');
INSERT INTO "configuration_changes" VALUES(61,1796111469286,'minimum_charge_micro_usd',NULL,'500000');
INSERT INTO "configuration_changes" VALUES(62,1796111469286,'moving_from',NULL,'""');
INSERT INTO "configuration_changes" VALUES(63,1796111469286,'offer_first',NULL,'"arbitrum"');
INSERT INTO "configuration_changes" VALUES(64,1796111469286,'operator_wallets',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(65,1796111469286,'pay_to',NULL,'""');
INSERT INTO "configuration_changes" VALUES(66,1796111469286,'payment_wait_seconds',NULL,'5');
INSERT INTO "configuration_changes" VALUES(67,1796111469286,'projects_per_wallet',NULL,'0');
INSERT INTO "configuration_changes" VALUES(68,1796111469286,'proxy_listen',NULL,'"127.0.0.1:0"');
INSERT INTO "configuration_changes" VALUES(69,1796111469286,'public_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(70,1796111469286,'refund_key_file',NULL,'"/var/lib/moorage/refund.key"');
INSERT INTO "configuration_changes" VALUES(71,1796111469286,'refund_limits_usd',NULL,'[100,200,1000]');
INSERT INTO "configuration_changes" VALUES(72,1796111469286,'refuse_secrets',NULL,'false');
INSERT INTO "configuration_changes" VALUES(73,1796111469286,'relayer_key_file',NULL,'"/var/lib/moorage/relayer.key"');
INSERT INTO "configuration_changes" VALUES(74,1796111469286,'requests_per_minute',NULL,'30');
INSERT INTO "configuration_changes" VALUES(75,1796111469286,'require_bound_signatures',NULL,'false');
INSERT INTO "configuration_changes" VALUES(76,1796111469286,'retention_days',NULL,'30');
INSERT INTO "configuration_changes" VALUES(77,1796111469286,'retry_installs',NULL,'true');
INSERT INTO "configuration_changes" VALUES(78,1796111469286,'rpc_timeout_seconds',NULL,'5');
INSERT INTO "configuration_changes" VALUES(79,1796111469286,'run_dir',NULL,'""');
INSERT INTO "configuration_changes" VALUES(80,1796111469286,'safe_above_micro_usd',NULL,'100000000');
INSERT INTO "configuration_changes" VALUES(81,1796111469286,'screening',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(82,1796111469286,'secrets_key_file',NULL,'""');
INSERT INTO "configuration_changes" VALUES(83,1796111469286,'sizes',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(84,1796111469286,'smtp_password_file',NULL,'""');
INSERT INTO "configuration_changes" VALUES(85,1796111469286,'smtp_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(86,1796111469286,'terms_url',NULL,'""');
INSERT INTO "configuration_changes" VALUES(87,1796111469286,'tls',NULL,'false');
INSERT INTO "configuration_changes" VALUES(88,1796111469286,'toolchains',NULL,'false');
INSERT INTO "configuration_changes" VALUES(89,1796111469286,'trusted_proxies',NULL,'[]');
INSERT INTO "configuration_changes" VALUES(90,1796111469286,'watch_seconds',NULL,'1');
INSERT INTO "configuration_changes" VALUES(91,1796111469286,'webhook_allow_networks',NULL,'["127.0.0.0/8","::1/128"]');
INSERT INTO "configuration_changes" VALUES(92,1796111469286,'wildcard_certificate',NULL,'[]');
CREATE TABLE delegations (
	id TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	delegate TEXT NOT NULL, 
	host TEXT NOT NULL, 
	project TEXT NOT NULL, 
	scopes TEXT NOT NULL, 
	limit_usd_month BIGINT NOT NULL, 
	not_after BIGINT NOT NULL, 
	epoch INTEGER NOT NULL, 
	signature TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	ended_at_ms BIGINT, 
	CONSTRAINT pk_delegations PRIMARY KEY (id)
);
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
CREATE TABLE deployments (
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
	size TEXT DEFAULT 'standard' NOT NULL, 
	variables TEXT DEFAULT '' NOT NULL, 
	superseded_at_ms BIGINT, 
	is_kept BOOLEAN DEFAULT 1 NOT NULL, 
	findings TEXT DEFAULT '[]' NOT NULL, 
	advice TEXT DEFAULT '{}' NOT NULL, 
	acted_by TEXT DEFAULT '' NOT NULL, 
	engine TEXT DEFAULT '' NOT NULL, 
	release_step TEXT, 
	CONSTRAINT pk_deployments PRIMARY KEY (id), 
	CONSTRAINT ck_deployments_origin_known CHECK (origin IN ('upload', 'rollback', 'configuration')), 
	CONSTRAINT ck_deployments_release_step_known CHECK (release_step IN ('begun', 'done')), 
	CONSTRAINT ck_deployments_status_known CHECK (status IN ('queued', 'building', 'deploying', 'ready', 'failed', 'superseded', 'stopped')), 
	CONSTRAINT fk_deployments_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "deployments" VALUES('1e247a72-7b12-4fd9-a60f-0aef457c8978','c9415511-d09c-46ff-9a4c-528a3bba7d8e','ready','7827a65193bf6cd87c00bcad6b91a8e6af96c50df9290669859e3441b442cbcd','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}','',NULL,NULL,'',1796111472666,1796111473902,'upload',NULL,'/','standard','v1.ad39b5f0.kAgm0De5kbXCShBvULSpMRGPIJQRt7wRb7uXcdn9nMQUBWDyB668Gv_gXcdXQuUrPLK5lOmqrXCp66FkVpACXw==',NULL,1,'[]','{}','','root',NULL);
INSERT INTO "deployments" VALUES('9f75d9b7-f238-4ed3-9495-6cc69fd0022f','4030015b-c438-41a9-a03b-8d6e1f77cdfc','stopped','d71bdb07a15d6e4296733bf55653aff7cb22de3d6cac1936f97fdb7b3143a2aa','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}','',NULL,NULL,'',1796111472794,1796111473276,'upload',NULL,'/','standard','',NULL,1,'[]','{}','','root',NULL);
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
	place INTEGER NOT NULL, 
	posting_id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	amount_micro_usd BIGINT NOT NULL, 
	CONSTRAINT pk_entries PRIMARY KEY (place), 
	CONSTRAINT uq_entries_posting_id_account UNIQUE (posting_id, account), 
	CONSTRAINT fk_entries_posting_id FOREIGN KEY(posting_id) REFERENCES postings (id)
);
INSERT INTO "entries" VALUES(1,'payment:42161:0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f:0','wallet:0x1102c51e458938bf4d478bc993ece6669935a9d6',500000);
INSERT INTO "entries" VALUES(2,'payment:42161:0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(3,'payment:42161:0x3315f28b880661c6c369295d4308ecb76a14306a52d765da8a641546083a7635:0','wallet:0x70553a2b20d6f93a198faab30368c183b2360f1e',500000);
INSERT INTO "entries" VALUES(4,'payment:42161:0x3315f28b880661c6c369295d4308ecb76a14306a52d765da8a641546083a7635:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(5,'burn:fcaf4251-0222-456a-96b0-61e6eec8b0ae:1796111474817','wallet:0x1102c51e458938bf4d478bc993ece6669935a9d6',-1);
INSERT INTO "entries" VALUES(6,'burn:fcaf4251-0222-456a-96b0-61e6eec8b0ae:1796111474817','earned',1);
INSERT INTO "entries" VALUES(7,'refund:8b7f8041-3d1e-485a-a916-116ec543876c','wallet:0x1102c51e458938bf4d478bc993ece6669935a9d6',-190000);
INSERT INTO "entries" VALUES(8,'refund:8b7f8041-3d1e-485a-a916-116ec543876c','refunded',190000);
INSERT INTO "entries" VALUES(9,'refund-gas:8b7f8041-3d1e-485a-a916-116ec543876c','wallet:0x1102c51e458938bf4d478bc993ece6669935a9d6',-10000);
INSERT INTO "entries" VALUES(10,'refund-gas:8b7f8041-3d1e-485a-a916-116ec543876c','earned',10000);
INSERT INTO "entries" VALUES(11,'payment:42161:0xe6e47ed4ec6ea1a258ab91b1cec0b6e003ffe16a46347508d7857db53bffe284:0','wallet:0x1102c51e458938bf4d478bc993ece6669935a9d6',5000000);
INSERT INTO "entries" VALUES(12,'payment:42161:0xe6e47ed4ec6ea1a258ab91b1cec0b6e003ffe16a46347508d7857db53bffe284:0','received:42161:usdc',-5000000);
INSERT INTO "entries" VALUES(13,'burn:201f4b95-3a58-4ce9-b93a-3eb8623fcbbb:1796111475073','wallet:0x1102c51e458938bf4d478bc993ece6669935a9d6',-1);
INSERT INTO "entries" VALUES(14,'burn:201f4b95-3a58-4ce9-b93a-3eb8623fcbbb:1796111475073','earned',1);
INSERT INTO "entries" VALUES(15,'purse:c9415511-d09c-46ff-9a4c-528a3bba7d8e:f2086d7e-08fc-4228-92fb-9e89445b3bae','wallet:0x1102c51e458938bf4d478bc993ece6669935a9d6',-1000000);
INSERT INTO "entries" VALUES(16,'purse:c9415511-d09c-46ff-9a4c-528a3bba7d8e:f2086d7e-08fc-4228-92fb-9e89445b3bae','project:c9415511-d09c-46ff-9a4c-528a3bba7d8e',1000000);
INSERT INTO "entries" VALUES(17,'burn:d2174926-8daf-4fb6-b032-50842d3127f0:1796111475092','wallet:0x70553a2b20d6f93a198faab30368c183b2360f1e',-1);
INSERT INTO "entries" VALUES(18,'burn:d2174926-8daf-4fb6-b032-50842d3127f0:1796111475092','earned',1);
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
INSERT INTO "events" VALUES('evt_bd9d4752e5c7478db95eedb589a2119c','0x1102c51e458938bf4d478bc993ece6669935a9d6',1,'payment.credited','{"chain_id":42161,"tx_hash":"0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1796111472639);
INSERT INTO "events" VALUES('evt_8b7a22b5906d44dca4ca0211ad552afd','0x70553a2b20d6f93a198faab30368c183b2360f1e',1,'payment.credited','{"chain_id":42161,"tx_hash":"0x3315f28b880661c6c369295d4308ecb76a14306a52d765da8a641546083a7635","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1796111472784);
INSERT INTO "events" VALUES('evt_9b490ffcd4cf4276920f56f13228fba7','0x70553a2b20d6f93a198faab30368c183b2360f1e',2,'deployment.ready','{"project_id":"4030015b-c438-41a9-a03b-8d6e1f77cdfc","deployment_id":"9f75d9b7-f238-4ed3-9495-6cc69fd0022f","endpoint":"http://app-67ed9f9efbc6.localhost:34023"}',1796111473276);
INSERT INTO "events" VALUES('evt_99183e1b80f846d0860f780aa7d64158','0x1102c51e458938bf4d478bc993ece6669935a9d6',2,'deployment.ready','{"project_id":"c9415511-d09c-46ff-9a4c-528a3bba7d8e","deployment_id":"1e247a72-7b12-4fd9-a60f-0aef457c8978","endpoint":"http://app-4f9373de1f46.localhost:34023"}',1796111473902);
INSERT INTO "events" VALUES('evt_6ab4e10297144f4085c667dcefbc1354','0x1102c51e458938bf4d478bc993ece6669935a9d6',3,'refund.queued','{"refund_id":"12cbeaa9-cdae-475a-a3e5-0b706c32c7a8","chain_id":42161,"tx_hash":"0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f","amount_token":"190000","amount_usd":0.19}',1796111474820);
INSERT INTO "events" VALUES('evt_d78e97dd6c5144c9875d86247da5dd11','0x1102c51e458938bf4d478bc993ece6669935a9d6',4,'payment.credited','{"chain_id":42161,"tx_hash":"0xe6e47ed4ec6ea1a258ab91b1cec0b6e003ffe16a46347508d7857db53bffe284","log_index":0,"token":"usdc","amount_token":"5000000","amount_usd":5}',1796111474876);
INSERT INTO "events" VALUES('evt_db5d457685574e179f80063439ccc23a','0x1102c51e458938bf4d478bc993ece6669935a9d6',5,'project.purse_changed','{"project_id":"c9415511-d09c-46ff-9a4c-528a3bba7d8e","added_usd":1,"taken_usd":0,"balance_usd":1}',1796111475072);
INSERT INTO "events" VALUES('evt_c0c545ec549d4213b672bf8414c9e0b7','0x70553a2b20d6f93a198faab30368c183b2360f1e',3,'project.deleted','{"project_id":"4030015b-c438-41a9-a03b-8d6e1f77cdfc"}',1796111475202);
INSERT INTO "events" VALUES('evt_b39b18af8d9d4e92a3b9cf0478324ee9','0x1102c51e458938bf4d478bc993ece6669935a9d6',6,'refund.sent','{"refund_id":"12cbeaa9-cdae-475a-a3e5-0b706c32c7a8","chain_id":42161,"tx_hash":"0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f","amount_token":"190000","amount_usd":0.19}',1796111475796);
INSERT INTO "events" VALUES('evt_a5f96adefc7849c3ac0bbfb81096b1b7','0x1102c51e458938bf4d478bc993ece6669935a9d6',7,'refund.final','{"refund_id":"12cbeaa9-cdae-475a-a3e5-0b706c32c7a8","chain_id":42161,"tx_hash":"0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f","amount_token":"190000","amount_usd":0.19}',1796111475815);
CREATE TABLE evictions (
	project_id TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at_ms BIGINT NOT NULL, 
	with_export BOOLEAN DEFAULT 1 NOT NULL, 
	failed_at_ms BIGINT, 
	failure TEXT, 
	CONSTRAINT pk_evictions PRIMARY KEY (project_id), 
	CONSTRAINT fk_evictions_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE exports (
	project_id TEXT NOT NULL, 
	by_owner BOOLEAN NOT NULL, 
	token TEXT NOT NULL, 
	state TEXT NOT NULL, 
	file_name TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	sha256 TEXT NOT NULL, 
	is_last BOOLEAN NOT NULL, 
	public_key TEXT, 
	attempts INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	began_at_ms BIGINT NOT NULL, 
	until_ms BIGINT NOT NULL, 
	CONSTRAINT pk_exports PRIMARY KEY (project_id, by_owner), 
	CONSTRAINT fk_exports_project_id FOREIGN KEY(project_id) REFERENCES projects (id), 
	CONSTRAINT uq_exports_token UNIQUE (token)
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
	created_at_ms BIGINT NOT NULL, 
	claim_id TEXT DEFAULT '' NOT NULL, 
	lease_until_ms BIGINT DEFAULT '0' NOT NULL, 
	outcome TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_idempotent_answers PRIMARY KEY (wallet, "key")
);
INSERT INTO "idempotent_answers" VALUES('0x1102c51e458938bf4d478bc993ece6669935a9d6','6f506799-0669-4b4e-b486-6fe1bbc5c2c4','d7aea7986b35665b3fff6f3c8adc4be48d477cb42802899c5bb35a2be37254bf','{"status":202,"headers":[["content-length","45"],["content-type","application/json"]],"body":"{\"id\":\"12cbeaa9-cdae-475a-a3e5-0b706c32c7a8\"}"}',1796111474811,'051ac197-e33e-4625-bb98-2285b7dbf18f',1796111484811,'{"id":"12cbeaa9-cdae-475a-a3e5-0b706c32c7a8"}');
INSERT INTO "idempotent_answers" VALUES('0x1102c51e458938bf4d478bc993ece6669935a9d6','0c1791b9-bc6f-4f0e-8cfc-6b17f3db2501','b928c64919b3d01ae4cb3a99f4021bf088385cab2814333b67fd618767ac2b24','{"status":200,"headers":[["content-length","169"],["content-type","application/json"]],"body":"{\"balance_usd\":1,\"shared\":true,\"limit_usd_month\":null,\"runs_out_at\":\"2027-10-19T17:50:59.305Z\",\"projectId\":\"c9415511-d09c-46ff-9a4c-528a3bba7d8e\",\"credits_usd\":4.299998}"}',1796111475072,'3029095c-da6f-4b6c-9619-8ea07ae3ade1',1796111485072,'{"balance_usd":1,"shared":true,"limit_usd_month":null,"runs_out_at":"2027-10-19T17:50:59.305Z","projectId":"c9415511-d09c-46ff-9a4c-528a3bba7d8e","credits_usd":4.299998}');
CREATE TABLE jobs (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	subject_id TEXT NOT NULL, 
	wallet TEXT DEFAULT '' NOT NULL, 
	builds BOOLEAN DEFAULT 0 NOT NULL, 
	status TEXT NOT NULL, 
	step TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	fence INTEGER NOT NULL, 
	run_at_ms BIGINT NOT NULL, 
	lease_until_ms BIGINT NOT NULL, 
	holder TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT ck_jobs_status_known CHECK (status IN ('queued', 'running', 'done')), 
	CONSTRAINT uq_jobs_kind_subject_id UNIQUE (kind, subject_id)
);
INSERT INTO "jobs" VALUES('5705a7c6-bf54-431d-90ca-310577c947fe','deploy','1e247a72-7b12-4fd9-a60f-0aef457c8978','0x1102c51e458938bf4d478bc993ece6669935a9d6',0,'done','ready',1,1,1796111472666,1796111532675,'2b8d8da290354dd789b01825f6b66cc1');
INSERT INTO "jobs" VALUES('f5fb7ff4-f8ce-4a61-b2d2-bcd2d4163f5a','deploy','9f75d9b7-f238-4ed3-9495-6cc69fd0022f','0x70553a2b20d6f93a198faab30368c183b2360f1e',0,'done','ready',1,2,1796111472794,1796111532812,'2b8d8da290354dd789b01825f6b66cc1');
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	expires_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('settlements','2b8d8da290354dd789b01825f6b66cc1',1,0);
INSERT INTO "leases" VALUES('search of arbitrum','2b8d8da290354dd789b01825f6b66cc1',1,0);
INSERT INTO "leases" VALUES('search of base','2b8d8da290354dd789b01825f6b66cc1',1,0);
INSERT INTO "leases" VALUES('finality of arbitrum','2b8d8da290354dd789b01825f6b66cc1',1,0);
INSERT INTO "leases" VALUES('finality of base','2b8d8da290354dd789b01825f6b66cc1',1,0);
INSERT INTO "leases" VALUES('refunds of arbitrum','2b8d8da290354dd789b01825f6b66cc1',1,0);
INSERT INTO "leases" VALUES('refunds of base','2b8d8da290354dd789b01825f6b66cc1',1,0);
INSERT INTO "leases" VALUES('schedules','2b8d8da290354dd789b01825f6b66cc1',1,0);
INSERT INTO "leases" VALUES('suspension','2b8d8da290354dd789b01825f6b66cc1',1,0);
CREATE TABLE links (
	id TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	role TEXT NOT NULL, 
	who TEXT NOT NULL, 
	project_id TEXT, 
	may_change BOOLEAN NOT NULL, 
	once BOOLEAN DEFAULT 0 NOT NULL, 
	label TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	expires_ms BIGINT NOT NULL, 
	used_ms BIGINT, 
	CONSTRAINT pk_links PRIMARY KEY (id), 
	CONSTRAINT ck_links_role_known CHECK (role IN ('wallet', 'operator')), 
	CONSTRAINT uq_links_digest UNIQUE (digest)
);
CREATE TABLE manage_tokens (
	digest TEXT NOT NULL, 
	id TEXT NOT NULL, 
	project_id TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	scopes TEXT DEFAULT 'read deploy delete' NOT NULL, 
	expires_ms BIGINT, 
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
INSERT INTO "meters" VALUES('2b8d8da290354dd789b01825f6b66cc1',1796111475081,13789573,'216b359f-3fa4-448e-bbcb-0becc6e494d1');
CREATE TABLE names (
	unique_name TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	held_until_ms BIGINT, 
	CONSTRAINT pk_names PRIMARY KEY (unique_name)
);
INSERT INTO "names" VALUES('app-4f9373de1f46','0x1102c51e458938bf4d478bc993ece6669935a9d6',NULL);
INSERT INTO "names" VALUES('app-67ed9f9efbc6','0x70553a2b20d6f93a198faab30368c183b2360f1e',0);
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
CREATE TABLE payment_uses (
	chain_id BIGINT NOT NULL, 
	tx_hash TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	project_id TEXT, 
	deployment_id TEXT, 
	CONSTRAINT pk_payment_uses PRIMARY KEY (chain_id, tx_hash, wallet)
);
INSERT INTO "payment_uses" VALUES(42161,'0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f','0x1102c51e458938bf4d478bc993ece6669935a9d6','c9415511-d09c-46ff-9a4c-528a3bba7d8e','1e247a72-7b12-4fd9-a60f-0aef457c8978');
INSERT INTO "payment_uses" VALUES(42161,'0x3315f28b880661c6c369295d4308ecb76a14306a52d765da8a641546083a7635','0x70553a2b20d6f93a198faab30368c183b2360f1e','4030015b-c438-41a9-a03b-8d6e1f77cdfc','9f75d9b7-f238-4ed3-9495-6cc69fd0022f');
INSERT INTO "payment_uses" VALUES(42161,'0xe6e47ed4ec6ea1a258ab91b1cec0b6e003ffe16a46347508d7857db53bffe284','0x1102c51e458938bf4d478bc993ece6669935a9d6',NULL,NULL);
CREATE TABLE payments (
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
	recipient TEXT NOT NULL, 
	purse TEXT, 
	given_to TEXT, 
	CONSTRAINT pk_payments PRIMARY KEY (chain_id, tx_hash, log_index), 
	CONSTRAINT ck_payments_status_known CHECK (status IN ('credited', 'held', 'reversed', 'refunded')), 
	CONSTRAINT ck_payments_finality_known CHECK (finality IN ('provisional', 'safe', 'finalized'))
);
INSERT INTO "payments" VALUES(42161,'0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f',0,'0x1102c51e458938bf4d478bc993ece6669935a9d6','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,2,'0xf735867d0a145a89d733c0c17469d631a46d56588c9f46740cfaa73e1fee515f',1796111472639,'credited','finalized',1,'payment:42161:0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f:0',NULL,'0x1a3dda1c973b72a2d1ba96748ccc8acf8227aa13',NULL,NULL);
INSERT INTO "payments" VALUES(42161,'0x3315f28b880661c6c369295d4308ecb76a14306a52d765da8a641546083a7635',0,'0x70553a2b20d6f93a198faab30368c183b2360f1e','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,3,'0x7511f01681ae18ff187ea1dcc8b73421be5d0fcf124a14d22a1d59f0505bad96',1796111472784,'credited','finalized',1,'payment:42161:0x3315f28b880661c6c369295d4308ecb76a14306a52d765da8a641546083a7635:0',NULL,'0x1a3dda1c973b72a2d1ba96748ccc8acf8227aa13',NULL,NULL);
INSERT INTO "payments" VALUES(42161,'0xe6e47ed4ec6ea1a258ab91b1cec0b6e003ffe16a46347508d7857db53bffe284',0,'0x1102c51e458938bf4d478bc993ece6669935a9d6','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','5000000',5000000,61,'0x8232ebf06e67ce5817898bed518f386baf22e20cdc293c8d85aa62a1804ede53',1796111474876,'credited','finalized',1,'payment:42161:0xe6e47ed4ec6ea1a258ab91b1cec0b6e003ffe16a46347508d7857db53bffe284:0',NULL,'0x1a3dda1c973b72a2d1ba96748ccc8acf8227aa13',NULL,NULL);
CREATE TABLE postings (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	acted_by TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_postings PRIMARY KEY (id)
);
INSERT INTO "postings" VALUES('payment:42161:0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f:0','payment',1796111472639,'');
INSERT INTO "postings" VALUES('payment:42161:0x3315f28b880661c6c369295d4308ecb76a14306a52d765da8a641546083a7635:0','payment',1796111472784,'');
INSERT INTO "postings" VALUES('burn:fcaf4251-0222-456a-96b0-61e6eec8b0ae:1796111474817','burn',1796111474817,'');
INSERT INTO "postings" VALUES('refund:8b7f8041-3d1e-485a-a916-116ec543876c','refund',1796111474820,'');
INSERT INTO "postings" VALUES('refund-gas:8b7f8041-3d1e-485a-a916-116ec543876c','refund',1796111474820,'');
INSERT INTO "postings" VALUES('payment:42161:0xe6e47ed4ec6ea1a258ab91b1cec0b6e003ffe16a46347508d7857db53bffe284:0','payment',1796111474876,'');
INSERT INTO "postings" VALUES('burn:201f4b95-3a58-4ce9-b93a-3eb8623fcbbb:1796111475073','burn',1796111475072,'');
INSERT INTO "postings" VALUES('purse:c9415511-d09c-46ff-9a4c-528a3bba7d8e:f2086d7e-08fc-4228-92fb-9e89445b3bae','purse',1796111475072,'');
INSERT INTO "postings" VALUES('burn:d2174926-8daf-4fb6-b032-50842d3127f0:1796111475092','burn',1796111475091,'');
CREATE TABLE price_changes (
	project_id TEXT NOT NULL, 
	ordered_at_ms BIGINT NOT NULL, 
	before_micro_usd BIGINT NOT NULL, 
	after_micro_usd BIGINT NOT NULL, 
	after_asleep_micro_usd BIGINT DEFAULT '0' NOT NULL, 
	from_ms BIGINT NOT NULL, 
	look_at_ms BIGINT, 
	applied_at_ms BIGINT, 
	CONSTRAINT pk_price_changes PRIMARY KEY (project_id, ordered_at_ms), 
	CONSTRAINT fk_price_changes_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE projects (
	id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	unique_name TEXT NOT NULL, 
	display_name TEXT NOT NULL, 
	description TEXT NOT NULL, 
	status TEXT NOT NULL, 
	monthly_price_micro_usd BIGINT NOT NULL, 
	asleep_price_micro_usd BIGINT DEFAULT '0' NOT NULL, 
	size TEXT DEFAULT 'standard' NOT NULL, 
	kept_prices TEXT DEFAULT '{}' NOT NULL, 
	serving_deployment_id TEXT, 
	created_at_ms BIGINT NOT NULL, 
	deleted_at_ms BIGINT, 
	suspended_at_ms BIGINT, 
	blocked_reason TEXT, 
	asleep_since_ms BIGINT, 
	no_space_since_ms BIGINT, 
	paused_at_ms BIGINT, 
	down_since_ms BIGINT, 
	lost_since_ms BIGINT, 
	health_path TEXT DEFAULT '/' NOT NULL, 
	variables TEXT DEFAULT '' NOT NULL, 
	volume BOOLEAN DEFAULT 0 NOT NULL, 
	volume_after TEXT, 
	volume_missing BOOLEAN DEFAULT 0 NOT NULL, 
	uncertified_since_ms BIGINT, 
	months INTEGER NOT NULL, 
	sleep_after_seconds INTEGER, 
	kind TEXT DEFAULT 'web' NOT NULL, 
	CONSTRAINT pk_projects PRIMARY KEY (id), 
	CONSTRAINT ck_projects_kind_known CHECK (kind IN ('web', 'worker')), 
	CONSTRAINT ck_projects_status_known CHECK (status IN ('queued', 'building', 'deploying', 'active', 'failed', 'suspended', 'deleting', 'deleted'))
);
INSERT INTO "projects" VALUES('c9415511-d09c-46ff-9a4c-528a3bba7d8e','0x1102c51e458938bf4d478bc993ece6669935a9d6','app-4f9373de1f46','app-4f9373de1f46','','active',500000,106250,'standard','{}','1e247a72-7b12-4fd9-a60f-0aef457c8978',1796111472666,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'/','v1.ad39b5f0.kAgm0De5kbXCShBvULSpMRGPIJQRt7wRb7uXcdn9nMQUBWDyB668Gv_gXcdXQuUrPLK5lOmqrXCp66FkVpACXw==',0,NULL,0,NULL,1,NULL,'web');
INSERT INTO "projects" VALUES('4030015b-c438-41a9-a03b-8d6e1f77cdfc','0x70553a2b20d6f93a198faab30368c183b2360f1e','app-67ed9f9efbc6','app-67ed9f9efbc6','','deleted',500000,106250,'standard','{}',NULL,1796111472794,1796111475201,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'/','',0,NULL,0,NULL,1,NULL,'web');
CREATE TABLE purses (
	project_id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	balance_micro_usd BIGINT NOT NULL, 
	shared BOOLEAN NOT NULL, 
	adopted BOOLEAN NOT NULL, 
	limit_month_micro_usd BIGINT, 
	warned_hours INTEGER, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_purses PRIMARY KEY (project_id)
);
INSERT INTO "purses" VALUES('c9415511-d09c-46ff-9a4c-528a3bba7d8e','0x1102c51e458938bf4d478bc993ece6669935a9d6',1000000,1,1,NULL,NULL,1796111475072);
CREATE TABLE quotes (
	id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	unique_name TEXT NOT NULL, 
	months INTEGER NOT NULL, 
	size TEXT DEFAULT 'standard' NOT NULL, 
	price_micro_usd BIGINT NOT NULL, 
	received_micro_usd BIGINT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	expires_at_ms BIGINT NOT NULL, 
	promised_at_ms BIGINT DEFAULT '0' NOT NULL, 
	counted_micro_usd BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_quotes PRIMARY KEY (id)
);
CREATE TABLE recipients (
	address TEXT NOT NULL, 
	since_ms BIGINT NOT NULL, 
	retired_at_ms BIGINT, 
	CONSTRAINT pk_recipients PRIMARY KEY (address)
);
INSERT INTO "recipients" VALUES('0x1a3dda1c973b72a2d1ba96748ccc8acf8227aa13',1796111470960,NULL);
CREATE TABLE recoveries (
	wallet TEXT NOT NULL, 
	address TEXT NOT NULL, 
	wait_days BIGINT NOT NULL, 
	next_address TEXT DEFAULT '' NOT NULL, 
	next_wait_days BIGINT DEFAULT '0' NOT NULL, 
	change_at_ms BIGINT, 
	change_billed_ms BIGINT, 
	claim_at_ms BIGINT, 
	claim_billed_ms BIGINT, 
	claim_not_before_ms BIGINT DEFAULT '0' NOT NULL, 
	told_at_ms BIGINT DEFAULT '0' NOT NULL, 
	taken_over_at_ms BIGINT, 
	CONSTRAINT pk_recoveries PRIMARY KEY (wallet)
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
	finality TEXT DEFAULT 'provisional' NOT NULL, 
	request_id TEXT DEFAULT '' NOT NULL, 
	gas_micro_usd BIGINT DEFAULT '0' NOT NULL, 
	decided_by TEXT DEFAULT '' NOT NULL, 
	waits_because TEXT, 
	CONSTRAINT pk_refunds PRIMARY KEY (id), 
	CONSTRAINT ck_refunds_status_known CHECK (status IN ('queued', 'intended', 'sent', 'refunded', 'failed')), 
	CONSTRAINT ck_refunds_finality_known CHECK (finality IN ('provisional', 'safe', 'finalized'))
);
INSERT INTO "refunds" VALUES('8b7f8041-3d1e-485a-a916-116ec543876c',42161,'0x91094746285a58681ffaf632836a748765d6f8264da588f0a5b5e21546e4f26f',0,'0x1102c51e458938bf4d478bc993ece6669935a9d6','0xaf88d065e77c8cc2239327c5edb3a432268e5831','190000',190000,'asked for by its payer','refunded','0xacb65705e2b0848efe247a727b4586469c710b3d8222b09894896813c11449f0',1796111474820,1796111475815,'safe','12cbeaa9-cdae-475a-a3e5-0b706c32c7a8',10000,'gateway',NULL);
CREATE TABLE relay_nonces (
	chain_id BIGINT NOT NULL, 
	sender TEXT NOT NULL, 
	nonce BIGINT NOT NULL, 
	subject_id TEXT NOT NULL, 
	CONSTRAINT pk_relay_nonces PRIMARY KEY (chain_id, sender, nonce)
);
INSERT INTO "relay_nonces" VALUES(42161,'0x1a3dda1c973b72a2d1ba96748ccc8acf8227aa13',0,'8b7f8041-3d1e-485a-a916-116ec543876c');
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
INSERT INTO "relay_transactions" VALUES(42161,'0xacb65705e2b0848efe247a727b4586469c710b3d8222b09894896813c11449f0','0x1a3dda1c973b72a2d1ba96748ccc8acf8227aa13',0,'8b7f8041-3d1e-485a-a916-116ec543876c','0xaf88d065e77c8cc2239327c5edb3a432268e5831','0xe3ee160e0000000000000000000000001a3dda1c973b72a2d1ba96748ccc8acf8227aa130000000000000000000000001102c51e458938bf4d478bc993ece6669935a9d6000000000000000000000000000000000000000000000000000000000002e6300000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000006b0e8ae9d05384f78abc29d1dded7b47ae13e4dee2c2692b9a9a3e189ae3a956237495b4000000000000000000000000000000000000000000000000000000000000001bafb0b276f9ded7da8ba4a6a48c1c4da47721cd54a45ce0f9fffc56882340ef7b77b8d4b2115ab2f21eda45129a435f9ce68c931ec0190ca6e17c69652109f959',83562,'1000001638','1000000000','0x02f9019382a4b180843b9aca00843b9ad0668301466a94af88d065e77c8cc2239327c5edb3a432268e583180b90124e3ee160e0000000000000000000000001a3dda1c973b72a2d1ba96748ccc8acf8227aa130000000000000000000000001102c51e458938bf4d478bc993ece6669935a9d6000000000000000000000000000000000000000000000000000000000002e6300000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000006b0e8ae9d05384f78abc29d1dded7b47ae13e4dee2c2692b9a9a3e189ae3a956237495b4000000000000000000000000000000000000000000000000000000000000001bafb0b276f9ded7da8ba4a6a48c1c4da47721cd54a45ce0f9fffc56882340ef7b77b8d4b2115ab2f21eda45129a435f9ce68c931ec0190ca6e17c69652109f959c080a0a4de2fc7e7850e6ef58ebf584247d5f5f5a2ea08f9db52e21edeb001a9f0bfcea02f2cf5e2df3d71977f80510ede0ee70d222774209643ef8d0b15de0061598099','mined',108,1796111475795);
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
	monthly_price_micro_usd BIGINT NOT NULL, 
	asleep BOOLEAN DEFAULT 0 NOT NULL, 
	at_limit BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_run_intervals PRIMARY KEY (id), 
	CONSTRAINT fk_run_intervals_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "run_intervals" VALUES('d2174926-8daf-4fb6-b032-50842d3127f0','4030015b-c438-41a9-a03b-8d6e1f77cdfc',1796111473280,1796111475092,1796111475092,1,500000,0,0);
INSERT INTO "run_intervals" VALUES('fcaf4251-0222-456a-96b0-61e6eec8b0ae','c9415511-d09c-46ff-9a4c-528a3bba7d8e',1796111473903,1796111474817,1796111474817,1,500000,0,0);
INSERT INTO "run_intervals" VALUES('201f4b95-3a58-4ce9-b93a-3eb8623fcbbb','c9415511-d09c-46ff-9a4c-528a3bba7d8e',1796111474817,1796111475073,1796111475073,1,500000,0,0);
INSERT INTO "run_intervals" VALUES('fe80bc71-07b5-4eb0-abce-a32a1094174a','c9415511-d09c-46ff-9a4c-528a3bba7d8e',1796111475073,NULL,1796111475073,0,500000,0,0);
CREATE TABLE runs (
	id TEXT NOT NULL, 
	project_id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	command TEXT DEFAULT '' NOT NULL, 
	path TEXT DEFAULT '' NOT NULL, 
	size TEXT DEFAULT '' NOT NULL, 
	timeout_seconds INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	deployment_id TEXT, 
	schedule TEXT, 
	due_at_ms BIGINT, 
	missed INTEGER DEFAULT '0' NOT NULL, 
	exit_code INTEGER, 
	reason TEXT DEFAULT '' NOT NULL, 
	started_at_ms BIGINT, 
	ended_at_ms BIGINT, 
	acted_by TEXT DEFAULT '' NOT NULL, 
	is_kept BOOLEAN DEFAULT 0 NOT NULL, 
	holds BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT ck_runs_kind_known CHECK (kind IN ('command', 'request')), 
	CONSTRAINT ck_runs_status_known CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'interrupted', 'skipped')), 
	CONSTRAINT uq_runs_project_id_schedule_due_at_ms UNIQUE (project_id, schedule, due_at_ms), 
	CONSTRAINT fk_runs_project_id FOREIGN KEY(project_id) REFERENCES projects (id), 
	CONSTRAINT fk_runs_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id)
);
CREATE TABLE schedules (
	project_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	cron TEXT NOT NULL, 
	timezone TEXT NOT NULL, 
	command TEXT NOT NULL, 
	path TEXT NOT NULL, 
	timeout_seconds INTEGER NOT NULL, 
	next_due_at_ms BIGINT NOT NULL, 
	is_held BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_schedules PRIMARY KEY (project_id, name), 
	CONSTRAINT fk_schedules_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE sessions (
	digest TEXT NOT NULL, 
	role TEXT NOT NULL, 
	who TEXT NOT NULL, 
	project_id TEXT, 
	may_change BOOLEAN NOT NULL, 
	link_id TEXT, 
	nonce TEXT, 
	created_at_ms BIGINT NOT NULL, 
	expires_ms BIGINT NOT NULL, 
	ended_ms BIGINT, 
	signed_ms BIGINT, 
	CONSTRAINT pk_sessions PRIMARY KEY (digest), 
	CONSTRAINT ck_sessions_role_known CHECK (role IN ('wallet', 'operator')), 
	CONSTRAINT uq_sessions_nonce UNIQUE (nonce)
);
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
	open_body TEXT, 
	purse TEXT, 
	CONSTRAINT pk_settlements PRIMARY KEY (id), 
	CONSTRAINT ck_settlements_status_known CHECK (status IN ('intended', 'sent', 'settled', 'failed')), 
	CONSTRAINT uq_settlements_chain_id_token_address_payer_nonce UNIQUE (chain_id, token_address, payer, nonce)
);
CREATE TABLE transfers (
	id TEXT NOT NULL, 
	project_id TEXT NOT NULL, 
	giver TEXT NOT NULL, 
	taker TEXT NOT NULL, 
	with_purse BOOLEAN NOT NULL, 
	with_variables BOOLEAN NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	not_after_ms BIGINT NOT NULL, 
	accepted_at_ms BIGINT, 
	withdrawn_at_ms BIGINT, 
	CONSTRAINT pk_transfers PRIMARY KEY (id), 
	CONSTRAINT fk_transfers_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE upkeep (
	kind TEXT NOT NULL, 
	at_ms BIGINT NOT NULL, 
	wrong INTEGER NOT NULL, 
	pending INTEGER NOT NULL, 
	unknown INTEGER NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	problem TEXT NOT NULL, 
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
	held BIGINT DEFAULT '0' NOT NULL, 
	held_ms BIGINT DEFAULT '0' NOT NULL, 
	slowest_ms BIGINT DEFAULT '0' NOT NULL, 
	within_2_ms BIGINT DEFAULT '0' NOT NULL, 
	within_5_ms BIGINT DEFAULT '0' NOT NULL, 
	within_10_ms BIGINT DEFAULT '0' NOT NULL, 
	within_25_ms BIGINT DEFAULT '0' NOT NULL, 
	within_50_ms BIGINT DEFAULT '0' NOT NULL, 
	within_100_ms BIGINT DEFAULT '0' NOT NULL, 
	within_250_ms BIGINT DEFAULT '0' NOT NULL, 
	within_500_ms BIGINT DEFAULT '0' NOT NULL, 
	within_1000_ms BIGINT DEFAULT '0' NOT NULL, 
	within_2500_ms BIGINT DEFAULT '0' NOT NULL, 
	within_10000_ms BIGINT DEFAULT '0' NOT NULL, 
	beyond_10000_ms BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_usage PRIMARY KEY (project_id, hour_ms), 
	CONSTRAINT fk_usage_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE usage_counters (
	deployment_id TEXT NOT NULL, 
	cpu_ms BIGINT NOT NULL, 
	cpu_millis BIGINT, 
	memory_bytes BIGINT, 
	CONSTRAINT pk_usage_counters PRIMARY KEY (deployment_id), 
	CONSTRAINT fk_usage_counters_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id)
);
CREATE TABLE usage_spans (
	project_id TEXT NOT NULL, 
	begins_ms BIGINT NOT NULL, 
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
	held BIGINT DEFAULT '0' NOT NULL, 
	held_ms BIGINT DEFAULT '0' NOT NULL, 
	slowest_ms BIGINT DEFAULT '0' NOT NULL, 
	within_2_ms BIGINT DEFAULT '0' NOT NULL, 
	within_5_ms BIGINT DEFAULT '0' NOT NULL, 
	within_10_ms BIGINT DEFAULT '0' NOT NULL, 
	within_25_ms BIGINT DEFAULT '0' NOT NULL, 
	within_50_ms BIGINT DEFAULT '0' NOT NULL, 
	within_100_ms BIGINT DEFAULT '0' NOT NULL, 
	within_250_ms BIGINT DEFAULT '0' NOT NULL, 
	within_500_ms BIGINT DEFAULT '0' NOT NULL, 
	within_1000_ms BIGINT DEFAULT '0' NOT NULL, 
	within_2500_ms BIGINT DEFAULT '0' NOT NULL, 
	within_10000_ms BIGINT DEFAULT '0' NOT NULL, 
	beyond_10000_ms BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_usage_spans PRIMARY KEY (project_id, begins_ms), 
	CONSTRAINT fk_usage_spans_project_id FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE wallet_rules (
	wallet TEXT NOT NULL, 
	is_listed BOOLEAN DEFAULT 0 NOT NULL, 
	max_projects INTEGER, 
	CONSTRAINT pk_wallet_rules PRIMARY KEY (wallet)
);
CREATE TABLE wallets (
	address TEXT NOT NULL, 
	balance_micro_usd BIGINT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	warned_hours INTEGER, 
	blocked_reason TEXT, 
	delegation_epoch INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_wallets PRIMARY KEY (address)
);
INSERT INTO "wallets" VALUES('0x1102c51e458938bf4d478bc993ece6669935a9d6',4299998,1796111472639,NULL,NULL,0);
INSERT INTO "wallets" VALUES('0x70553a2b20d6f93a198faab30368c183b2360f1e',499999,1796111472784,NULL,NULL,0);
CREATE TABLE webhooks (
	wallet TEXT NOT NULL, 
	url TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	next_at_ms BIGINT, 
	lease_until_ms BIGINT DEFAULT '0' NOT NULL, 
	holder TEXT DEFAULT '' NOT NULL, 
	fence BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_webhooks PRIMARY KEY (wallet)
);
CREATE TABLE work (
	id TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	project_id TEXT NOT NULL, 
	deployment_id TEXT NOT NULL, 
	kind TEXT DEFAULT 'build' NOT NULL, 
	acted_by TEXT DEFAULT '' NOT NULL, 
	monthly_price_micro_usd BIGINT NOT NULL, 
	started_at_ms BIGINT NOT NULL, 
	ran_ms BIGINT NOT NULL, 
	billed_ms BIGINT NOT NULL, 
	charged_micro_usd BIGINT NOT NULL, 
	CONSTRAINT pk_work PRIMARY KEY (id), 
	CONSTRAINT ck_work_kind_known CHECK (kind IN ('build', 'run')), 
	CONSTRAINT fk_work_project_id FOREIGN KEY(project_id) REFERENCES projects (id), 
	CONSTRAINT fk_work_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id)
);
INSERT INTO "work" VALUES('2556d01c-5747-4e02-9ec7-afa55ea50b03','0x1102c51e458938bf4d478bc993ece6669935a9d6','c9415511-d09c-46ff-9a4c-528a3bba7d8e','1e247a72-7b12-4fd9-a60f-0aef457c8978','build','',2000000,1796111472679,126,0,0);
INSERT INTO "work" VALUES('41f6f2de-7312-498d-9c0a-2f15f269a573','0x70553a2b20d6f93a198faab30368c183b2360f1e','4030015b-c438-41a9-a03b-8d6e1f77cdfc','9f75d9b7-f238-4ed3-9495-6cc69fd0022f','build','',2000000,1796111472813,121,0,0);
CREATE INDEX ix_alerts_ended_ms ON alerts (ended_ms);
CREATE UNIQUE INDEX uq_alerts_open ON alerts (gateway, rule, labels) WHERE ended_ms IS NULL;
CREATE INDEX ix_certificates_not_after_ms ON certificates (not_after_ms);
CREATE INDEX ix_certificates_order_at_ms ON certificates (order_at_ms);
CREATE INDEX ix_certificates_ordered_at_ms ON certificates (ordered_at_ms);
CREATE INDEX ix_certificates_wallet_first_at_ms ON certificates (wallet, first_at_ms);
CREATE INDEX ix_configuration_changes_setting_id ON configuration_changes (setting, id);
CREATE INDEX ix_delegations_owner_delegate ON delegations (owner, delegate);
CREATE INDEX ix_events_created_at_ms ON events (created_at_ms);
CREATE INDEX ix_grants_wallet ON grants (wallet);
CREATE INDEX ix_idempotent_answers_created_at_ms ON idempotent_answers (created_at_ms);
CREATE INDEX ix_jobs_status_run_at_ms ON jobs (status, run_at_ms);
CREATE INDEX ix_links_expires_ms ON links (expires_ms);
CREATE INDEX ix_links_who_created_at_ms ON links (who, created_at_ms);
CREATE INDEX ix_names_wallet_held_until_ms ON names (wallet, held_until_ms);
CREATE INDEX ix_operator_acts_at_ms ON operator_acts (at_ms);
CREATE INDEX ix_payments_chain_id_finality_block_number ON payments (chain_id, finality, block_number);
CREATE INDEX ix_payments_claimed_at_ms ON payments (claimed_at_ms);
CREATE INDEX ix_payments_given_to ON payments (given_to) WHERE given_to IS NOT NULL;
CREATE INDEX ix_payments_payer ON payments (payer);
CREATE INDEX ix_payments_reversed ON payments (chain_id, tx_hash) WHERE status = 'reversed';
CREATE INDEX ix_postings_acted_by ON postings (acted_by, created_at_ms) WHERE acted_by <> '';
CREATE INDEX ix_projects_awake ON projects (status) WHERE deleted_at_ms IS NULL AND asleep_since_ms IS NULL;
CREATE INDEX ix_projects_blocked ON projects (id) WHERE blocked_reason IS NOT NULL;
CREATE INDEX ix_projects_lost ON projects (id) WHERE lost_since_ms IS NOT NULL;
CREATE INDEX ix_projects_wallet_created_at_ms ON projects (wallet, created_at_ms);
CREATE UNIQUE INDEX uq_projects_living_name ON projects (unique_name) WHERE deleted_at_ms IS NULL;
CREATE INDEX ix_purses_wallet ON purses (wallet);
CREATE INDEX ix_quotes_expires_at_ms ON quotes (expires_at_ms);
CREATE INDEX ix_quotes_unique_name_expires_at_ms ON quotes (unique_name, expires_at_ms);
CREATE INDEX ix_quotes_wallet_expires_at_ms ON quotes (wallet, expires_at_ms);
CREATE INDEX ix_recoveries_change_at_ms ON recoveries (change_at_ms);
CREATE INDEX ix_recoveries_claim_at_ms ON recoveries (claim_at_ms);
CREATE INDEX ix_recoveries_taken_over_at_ms ON recoveries (taken_over_at_ms);
CREATE INDEX ix_refunds_chain_id_tx_hash_log_index ON refunds (chain_id, tx_hash, log_index);
CREATE INDEX ix_refunds_recipient_created_at_ms ON refunds (recipient, created_at_ms);
CREATE INDEX ix_refunds_status ON refunds (status);
CREATE INDEX ix_relay_transactions_chain_id_sender_nonce ON relay_transactions (chain_id, sender, nonce);
CREATE INDEX ix_relay_transactions_chain_id_sender_status ON relay_transactions (chain_id, sender, status);
CREATE INDEX ix_relay_transactions_subject_id ON relay_transactions (subject_id);
CREATE INDEX ix_sessions_expires_ms ON sessions (expires_ms);
CREATE INDEX ix_sessions_link_id ON sessions (link_id);
CREATE INDEX ix_sessions_who_created_at_ms ON sessions (who, created_at_ms);
CREATE INDEX ix_settlements_chain_id_status ON settlements (chain_id, status);
CREATE INDEX ix_settlements_chain_id_tx_hash ON settlements (chain_id, tx_hash);
CREATE INDEX ix_settlements_payer_status ON settlements (payer, status);
CREATE INDEX ix_webhooks_next_at_ms ON webhooks (next_at_ms);
CREATE INDEX ix_deliveries_event_id ON deliveries (event_id);
CREATE INDEX ix_deliveries_wallet_status_id ON deliveries (wallet, status, id);
CREATE INDEX ix_deployments_project_id_created_at_ms ON deployments (project_id, created_at_ms);
CREATE INDEX ix_deployments_status ON deployments (status);
CREATE UNIQUE INDEX uq_deployments_under_way ON deployments (project_id) WHERE status IN ('queued', 'building', 'deploying');
CREATE INDEX ix_domains_next_check_at_ms ON domains (next_check_at_ms);
CREATE INDEX ix_domains_project_id ON domains (project_id);
CREATE UNIQUE INDEX uq_domains_verified ON domains (host) WHERE status = 'verified';
CREATE INDEX ix_entries_account ON entries (account);
CREATE INDEX ix_evictions_at_ms ON evictions (at_ms);
CREATE INDEX ix_manage_tokens_project_id_created_at_ms ON manage_tokens (project_id, created_at_ms);
CREATE INDEX ix_price_changes_look_at_ms ON price_changes (look_at_ms);
CREATE INDEX ix_run_intervals_ended_at_ms_charged_until_ms ON run_intervals (ended_at_ms, charged_until_ms);
CREATE INDEX ix_run_intervals_project_id ON run_intervals (project_id);
CREATE UNIQUE INDEX uq_run_intervals_open ON run_intervals (project_id) WHERE ended_at_ms IS NULL;
CREATE INDEX ix_schedules_next_due_at_ms ON schedules (next_due_at_ms);
CREATE INDEX ix_transfers_giver_created_at_ms ON transfers (giver, created_at_ms);
CREATE INDEX ix_transfers_taker_created_at_ms ON transfers (taker, created_at_ms);
CREATE UNIQUE INDEX uq_transfers_open ON transfers (project_id) WHERE accepted_at_ms IS NULL AND withdrawn_at_ms IS NULL;
CREATE INDEX ix_usage_hour_ms ON usage (hour_ms);
CREATE INDEX ix_usage_spans_begins_ms ON usage_spans (begins_ms);
CREATE INDEX ix_runs_kept ON runs (project_id) WHERE is_kept;
CREATE INDEX ix_runs_project_id_created_at_ms ON runs (project_id, created_at_ms);
CREATE INDEX ix_runs_queued ON runs (wallet, created_at_ms) WHERE status = 'queued';
CREATE INDEX ix_runs_running ON runs (id) WHERE status = 'running' OR holds;
CREATE INDEX ix_work_wallet ON work (wallet);
COMMIT;
