BEGIN TRANSACTION;
CREATE TABLE access_log_position (
	id INTEGER NOT NULL, 
	head TEXT NOT NULL, 
	"offset" BIGINT NOT NULL, 
	CONSTRAINT pk_access_log_position PRIMARY KEY (id)
);
INSERT INTO "access_log_position" VALUES(1,'8974371ae32b6713550ec3af9c56af9d',1471);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0021');
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
INSERT INTO "build_runs" VALUES('5b88840d-53f9-4d04-b23b-ee5d76e39e10','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','baa2eee8-f07d-4025-abbe-22797c24f1e3','5025f389-0cc9-40a1-9177-2821b3e33d24',2000000,1795752843313,422,0,0);
INSERT INTO "build_runs" VALUES('187a056d-6bfc-4575-9e3a-282eae409709','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','baa2eee8-f07d-4025-abbe-22797c24f1e3','2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2',2000000,1795752844977,499,0,0);
INSERT INTO "build_runs" VALUES('a55ecf77-6c04-4386-bf85-60e3cde80daa','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','10c2671d-2f57-494b-8ff7-5f16e3ed45f0','bf1ecfb7-44c7-4114-adc6-c4ae1c885a17',2000000,1795752846605,536,0,0);
INSERT INTO "build_runs" VALUES('c1850a33-fb6b-4d0e-b349-6beccd3eb6cf','0x9493028683c8fd652174ba45589993cc46799b29','7e1060da-74b5-4b0e-bed3-2004f471043f','c641e7f6-9375-469e-9de5-8aa324dff466',2000000,1795752848220,254,0,0);
CREATE TABLE certificates (
	host TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	first_at_ms BIGINT NOT NULL, 
	asked_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_certificates PRIMARY KEY (host)
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
	is_kept BOOLEAN DEFAULT 1 NOT NULL, findings TEXT DEFAULT '[]' NOT NULL, 
	CONSTRAINT pk_deployments PRIMARY KEY (id), 
	CONSTRAINT ck_deployments_status_known CHECK (status IN ('queued', 'building', 'deploying', 'ready', 'failed', 'superseded', 'stopped')), 
	CONSTRAINT fk_deployments_project_id FOREIGN KEY(project_id) REFERENCES projects (id), 
	CONSTRAINT ck_deployments_origin_known CHECK (origin IN ('upload', 'rollback', 'configuration'))
);
INSERT INTO "deployments" VALUES('5025f389-0cc9-40a1-9177-2821b3e33d24','baa2eee8-f07d-4025-abbe-22797c24f1e3','superseded','4330e160dbfad82ba06c4aa4706911fb0a30573d93c803db11759048c77f017b','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}','',NULL,NULL,'',1795752842445,1795752844722,'upload',NULL,'/','',1795752846162,1,'[]');
INSERT INTO "deployments" VALUES('2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2','baa2eee8-f07d-4025-abbe-22797c24f1e3','ready','00c29510c7d35ea476ccd5c948a6b6ada3e49957758e6efba86551fca0306cc6','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"host_tools":{"caddy":"2.11.7"},"install_inputs":[]}','',NULL,NULL,'',1795752844961,1795752846162,'upload',NULL,'/','',NULL,1,'[]');
INSERT INTO "deployments" VALUES('bf1ecfb7-44c7-4114-adc6-c4ae1c885a17','10c2671d-2f57-494b-8ff7-5f16e3ed45f0','failed','8c3fd1effff038ad73fe65f1cbf2c5895a7654026da75e205f3e04360b33b689','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}','','`exec node index.js` ended with exit code 1 before it listened on a port','crashed','',1795752846586,1795752848121,'upload',NULL,'/','',NULL,1,'[]');
INSERT INTO "deployments" VALUES('c641e7f6-9375-469e-9de5-8aa324dff466','7e1060da-74b5-4b0e-bed3-2004f471043f','ready','19aa5d6028a4c6c4f5e76577c45e0d2bf87af7062880e46efff3dc858c1347c9','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"host_tools":{"caddy":"2.11.7"},"install_inputs":[]}','',NULL,NULL,'',1795752848171,1795752850019,'upload',NULL,'/','',NULL,1,'[]');
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
INSERT INTO "entries" VALUES(1,'payment:42161:0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES(2,'payment:42161:0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(3,'payment:42161:0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES(4,'payment:42161:0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(5,'payment:42161:0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574:0','wallet:0x9493028683c8fd652174ba45589993cc46799b29',500000);
INSERT INTO "entries" VALUES(6,'payment:42161:0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(7,'payment:42161:0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927:0','wallet:0x9493028683c8fd652174ba45589993cc46799b29',700000);
INSERT INTO "entries" VALUES(8,'payment:42161:0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927:0','received:42161:usdc',-700000);
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
INSERT INTO "events" VALUES('evt_2d098f5003a644a18cc8c8c32222ae01','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1,'payment.credited','{"chain_id":42161,"tx_hash":"0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752842373);
INSERT INTO "events" VALUES('evt_e25f46bc60114af18245804a8d552440','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',2,'deployment.ready','{"project_id":"baa2eee8-f07d-4025-abbe-22797c24f1e3","deployment_id":"5025f389-0cc9-40a1-9177-2821b3e33d24","endpoint":"http://kept.localhost:41861"}',1795752844722);
INSERT INTO "events" VALUES('evt_5f9cb14fdffd4960a1f38e40af90a216','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',3,'deployment.ready','{"project_id":"baa2eee8-f07d-4025-abbe-22797c24f1e3","deployment_id":"2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2","endpoint":"http://kept.localhost:41861"}',1795752846162);
INSERT INTO "events" VALUES('evt_7a85211c9bc548c5aa3148f3beeaa0a0','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',4,'payment.credited','{"chain_id":42161,"tx_hash":"0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752846551);
INSERT INTO "events" VALUES('evt_c380e41f36024b1eae39033bfcc0f8e9','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',5,'deployment.failed','{"project_id":"10c2671d-2f57-494b-8ff7-5f16e3ed45f0","deployment_id":"bf1ecfb7-44c7-4114-adc6-c4ae1c885a17","reason":"`exec node index.js` ended with exit code 1 before it listened on a port","reason_code":"crashed"}',1795752848121);
INSERT INTO "events" VALUES('evt_b0f1ff7c66244f09a8f8bf8ccdfaa4a3','0x9493028683c8fd652174ba45589993cc46799b29',1,'payment.credited','{"chain_id":42161,"tx_hash":"0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752848170);
INSERT INTO "events" VALUES('evt_4d58d9e7ae7f4fb19e731a81c578b7bb','0x9493028683c8fd652174ba45589993cc46799b29',2,'deployment.ready','{"project_id":"7e1060da-74b5-4b0e-bed3-2004f471043f","deployment_id":"c641e7f6-9375-469e-9de5-8aa324dff466","endpoint":"http://other.localhost:41861"}',1795752850019);
INSERT INTO "events" VALUES('evt_b733d2695d9a4cfa96da5ba805850918','0x9493028683c8fd652174ba45589993cc46799b29',3,'payment.credited','{"chain_id":42161,"tx_hash":"0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927","log_index":0,"token":"usdc","amount_token":"700000","amount_usd":0.7}',1795752850777);
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
	CONSTRAINT ck_jobs_status_known CHECK (status IN ('queued', 'running', 'done')), 
	CONSTRAINT uq_jobs_kind_subject_id UNIQUE (kind, subject_id)
);
INSERT INTO "jobs" VALUES('b8f18028-5514-4c6f-b0be-c5911d9d18c1','deploy','5025f389-0cc9-40a1-9177-2821b3e33d24','done','ready',1,1,1795752842445,1795752903161,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0,'559bfafb513c4226a7feab452bbbba55');
INSERT INTO "jobs" VALUES('4eeec562-f1a8-4a66-a7a9-4a66cd6902f4','deploy','2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2','done','ready',1,1,1795752844961,1795752904976,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0,'559bfafb513c4226a7feab452bbbba55');
INSERT INTO "jobs" VALUES('9e9c08fa-f0e9-4530-b44d-71b8e5e8dfe3','deploy','bf1ecfb7-44c7-4114-adc6-c4ae1c885a17','done','failed',1,1,1795752846586,1795752906604,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0,'559bfafb513c4226a7feab452bbbba55');
INSERT INTO "jobs" VALUES('045aca9b-4ca6-4101-a6a6-1c894a3ac7c3','deploy','c641e7f6-9375-469e-9de5-8aa324dff466','done','ready',1,1,1795752848171,1795752908208,'0x9493028683c8fd652174ba45589993cc46799b29',0,'559bfafb513c4226a7feab452bbbba55');
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	expires_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('settlements','559bfafb513c4226a7feab452bbbba55',1,0);
INSERT INTO "leases" VALUES('search of arbitrum','559bfafb513c4226a7feab452bbbba55',1,0);
INSERT INTO "leases" VALUES('search of base','559bfafb513c4226a7feab452bbbba55',1,0);
INSERT INTO "leases" VALUES('finality of arbitrum','559bfafb513c4226a7feab452bbbba55',1,0);
INSERT INTO "leases" VALUES('refunds of arbitrum','559bfafb513c4226a7feab452bbbba55',1,0);
INSERT INTO "leases" VALUES('finality of base','559bfafb513c4226a7feab452bbbba55',1,0);
INSERT INTO "leases" VALUES('refunds of base','559bfafb513c4226a7feab452bbbba55',1,0);
INSERT INTO "leases" VALUES('suspension','559bfafb513c4226a7feab452bbbba55',1,0);
INSERT INTO "leases" VALUES('domains','559bfafb513c4226a7feab452bbbba55',1,0);
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
INSERT INTO "meters" VALUES('559bfafb513c4226a7feab452bbbba55',1795752850019,15849196,'4fdc0208-6178-4508-99cc-12101b8dfde5');
CREATE TABLE names (
	unique_name TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	held_until_ms BIGINT, 
	CONSTRAINT pk_names PRIMARY KEY (unique_name)
);
INSERT INTO "names" VALUES('kept','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',NULL);
INSERT INTO "names" VALUES('broken','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',NULL);
INSERT INTO "names" VALUES('other','0x9493028683c8fd652174ba45589993cc46799b29',NULL);
CREATE TABLE "payment_uses" (
	chain_id BIGINT NOT NULL, 
	tx_hash TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	project_id TEXT, 
	deployment_id TEXT, 
	CONSTRAINT pk_payment_uses PRIMARY KEY (chain_id, tx_hash, wallet)
);
INSERT INTO "payment_uses" VALUES(42161,'0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','baa2eee8-f07d-4025-abbe-22797c24f1e3','5025f389-0cc9-40a1-9177-2821b3e33d24');
INSERT INTO "payment_uses" VALUES(42161,'0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','10c2671d-2f57-494b-8ff7-5f16e3ed45f0','bf1ecfb7-44c7-4114-adc6-c4ae1c885a17');
INSERT INTO "payment_uses" VALUES(42161,'0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574','0x9493028683c8fd652174ba45589993cc46799b29','7e1060da-74b5-4b0e-bed3-2004f471043f','c641e7f6-9375-469e-9de5-8aa324dff466');
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
INSERT INTO "payments" VALUES(42161,'0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,2,'0x7ad223e1a2af833818fac80743545703e113664763358855dd4a6d67536c0596',1795752842373,'credited','finalized',1,'payment:42161:0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3:0',NULL,'0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54');
INSERT INTO "payments" VALUES(42161,'0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,3,'0xdd506e70aef111d179ef59e7695004c25a437579fcd61560b5c9b074bc5ee89c',1795752846551,'credited','finalized',1,'payment:42161:0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138:0',NULL,'0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54');
INSERT INTO "payments" VALUES(42161,'0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574',0,'0x9493028683c8fd652174ba45589993cc46799b29','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,4,'0x65dbb318bb0162377fc02ad8a9eacd2ac1abc47708c5c4f6d8a589c62c27df63',1795752848170,'credited','finalized',1,'payment:42161:0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574:0',NULL,'0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54');
INSERT INTO "payments" VALUES(42161,'0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927',0,'0x9493028683c8fd652174ba45589993cc46799b29','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','700000',700000,5,'0xf0d9fa7cb31e323c9476153893e99d3a4c63af8a406762759a96f85b19e0f4ed',1795752850777,'credited','finalized',1,'payment:42161:0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927:0',NULL,'0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54');
CREATE TABLE postings (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_postings PRIMARY KEY (id)
);
INSERT INTO "postings" VALUES('payment:42161:0xf0e862975671fb75d4ffe026a2412f0d52f1ae475da36a68056a2456dc82caf3:0','payment',1795752842373);
INSERT INTO "postings" VALUES('payment:42161:0xb02fbdfef62e5338e6fea2e0982982eaa867cd43a972ff0e14b7f6b719e1b138:0','payment',1795752846551);
INSERT INTO "postings" VALUES('payment:42161:0x955b05027dcf8e1cda9186eace235194cc5399320d2d33d75c871f1e72341574:0','payment',1795752848170);
INSERT INTO "postings" VALUES('payment:42161:0x680fdbaaebfb3e3b728b3a7883f0b0c034e5ab058aff5ab55985e266df893927:0','payment',1795752850777);
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
INSERT INTO "projects" VALUES('baa2eee8-f07d-4025-abbe-22797c24f1e3','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','kept','kept','','active',500000,'2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2',1795752842445,NULL,NULL,NULL,NULL,'/','',0,NULL,NULL);
INSERT INTO "projects" VALUES('10c2671d-2f57-494b-8ff7-5f16e3ed45f0','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','broken','broken','','failed',500000,NULL,1795752846586,NULL,NULL,NULL,NULL,'/','',0,NULL,NULL);
INSERT INTO "projects" VALUES('7e1060da-74b5-4b0e-bed3-2004f471043f','0x9493028683c8fd652174ba45589993cc46799b29','other','other','','active',500000,'c641e7f6-9375-469e-9de5-8aa324dff466',1795752848171,NULL,NULL,NULL,NULL,'/','',0,NULL,NULL);
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
	since_ms BIGINT NOT NULL, 
	CONSTRAINT pk_recipients PRIMARY KEY (address)
);
INSERT INTO "recipients" VALUES('0x9e73651215d2a03ef2ce55eac12d189a6cf2ec54',1795752839788);
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
INSERT INTO "run_intervals" VALUES('16e653d2-80ee-4fd0-bee9-c3a4e367bb0a','baa2eee8-f07d-4025-abbe-22797c24f1e3',1795752844728,NULL,1795752844728,0,500000);
INSERT INTO "run_intervals" VALUES('74dcb768-e0f5-40c3-bd9b-48294740d84f','7e1060da-74b5-4b0e-bed3-2004f471043f',1795752850019,NULL,1795752850019,0,500000);
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
INSERT INTO "usage" VALUES('baa2eee8-f07d-4025-abbe-22797c24f1e3',1795752000000,92,0,11468800,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES('7e1060da-74b5-4b0e-bed3-2004f471043f',1795752000000,73,0,12029952,0,0,0,0,0,0,0,0);
CREATE TABLE usage_counters (
	deployment_id TEXT NOT NULL, 
	cpu_ms BIGINT NOT NULL, cpu_millis BIGINT, memory_bytes BIGINT, 
	CONSTRAINT pk_usage_counters PRIMARY KEY (deployment_id), 
	CONSTRAINT fk_usage_counters_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id)
);
INSERT INTO "usage_counters" VALUES('2ee8ee55-ac2c-44ad-b3a9-557b9cab66e2',92,NULL,NULL);
INSERT INTO "usage_counters" VALUES('c641e7f6-9375-469e-9de5-8aa324dff466',73,NULL,NULL);
CREATE TABLE "wallets" (
	address TEXT NOT NULL, 
	balance_micro_usd BIGINT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	warned_hours INTEGER, blocked_reason TEXT, 
	CONSTRAINT pk_wallets PRIMARY KEY (address)
);
INSERT INTO "wallets" VALUES('0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1000000,1795752842373,NULL,NULL);
INSERT INTO "wallets" VALUES('0x9493028683c8fd652174ba45589993cc46799b29',1200000,1795752848170,NULL,NULL);
CREATE TABLE watch_cursors (
	chain_id BIGINT NOT NULL, 
	search TEXT NOT NULL, 
	block_number BIGINT NOT NULL, 
	block_hash TEXT NOT NULL, 
	CONSTRAINT pk_watch_cursors PRIMARY KEY (chain_id, search), 
	CONSTRAINT ck_watch_cursors_search_known CHECK (search IN ('confirmed', 'safe'))
);
INSERT INTO "watch_cursors" VALUES(8453,'confirmed',241,'0x8b3981b3fe34c479611d6524dadec6cc06bf59127f3f8f4e7e0f66e6f62cdb4a');
INSERT INTO "watch_cursors" VALUES(8453,'safe',240,'0x352f455c29da88b0675b18b7c8bdb3c9a49f96faaef71c814a80c056f8d2cdcb');
INSERT INTO "watch_cursors" VALUES(42161,'confirmed',245,'0x26a2a4b4f3acb47f409b099b5d22a988f9e0e1ccc59b1a056038fdf4d072c140');
INSERT INTO "watch_cursors" VALUES(42161,'safe',244,'0x227ddfe7a43f33f8f548651267c5c14edde02daf282870bfd121d966c3122014');
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
CREATE UNIQUE INDEX uq_projects_living_name ON projects (unique_name) WHERE deleted_at_ms IS NULL;
CREATE INDEX ix_projects_wallet_created_at_ms ON projects (wallet, created_at_ms);
CREATE INDEX ix_projects_blocked ON projects (id) WHERE blocked_reason IS NOT NULL;
CREATE INDEX ix_refunds_chain_id_tx_hash_log_index ON refunds (chain_id, tx_hash, log_index);
CREATE INDEX ix_refunds_status ON refunds (status);
CREATE INDEX ix_build_runs_wallet ON build_runs (wallet);
CREATE INDEX ix_certificates_wallet_first_at_ms ON certificates (wallet, first_at_ms);
CREATE INDEX ix_names_wallet_held_until_ms ON names (wallet, held_until_ms);
CREATE UNIQUE INDEX uq_deployments_under_way ON deployments (project_id) WHERE status IN ('queued', 'building', 'deploying');
CREATE INDEX ix_entries_account ON entries (account);
CREATE INDEX ix_manage_tokens_project_id_created_at_ms ON manage_tokens (project_id, created_at_ms);
COMMIT;
