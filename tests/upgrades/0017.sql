BEGIN TRANSACTION;
CREATE TABLE access_log_position (
	id INTEGER NOT NULL, 
	head TEXT NOT NULL, 
	"offset" BIGINT NOT NULL, 
	CONSTRAINT pk_access_log_position PRIMARY KEY (id)
);
INSERT INTO "access_log_position" VALUES(1,'612575661abd61f5c03d4e680a1956f9',1469);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0017');
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
INSERT INTO "build_runs" VALUES('39e8b399-ba0b-462b-972b-2cb39394dc0e','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','2deb7232-4148-420b-bb40-9e0ef0b5bc4c','480661ec-766d-4b52-bbc6-8d627deb2ac7',2000000,1795752798759,248,0,0);
INSERT INTO "build_runs" VALUES('7ac9501f-6332-4408-9ec2-19eadc54c7e2','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','2deb7232-4148-420b-bb40-9e0ef0b5bc4c','9b305b0c-63d9-48f9-9e6e-d8518d133d35',2000000,1795752799750,275,0,0);
INSERT INTO "build_runs" VALUES('bd9145fe-324e-4f79-8c59-78a073545d5f','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','a13f45d3-036a-47b2-b4a0-bb597ecb95ed','fd51edc1-a3b9-4333-be17-b73a6204a0bd',2000000,1795752800782,245,0,0);
INSERT INTO "build_runs" VALUES('a2aa8673-e543-4a0c-a3a4-7fd88548e3cc','0xbe99c1b5e7bee9048e77667704617a59231ae3f8','524f61d5-c4b8-4e7b-8f1e-fbdedae65d36','170e7501-6b68-4eef-9b16-812be1efd203',2000000,1795752801646,136,0,0);
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
	is_kept BOOLEAN DEFAULT 1 NOT NULL, 
	CONSTRAINT pk_deployments PRIMARY KEY (id), 
	CONSTRAINT fk_deployments_project_id FOREIGN KEY(project_id) REFERENCES projects (id), 
	CONSTRAINT ck_deployments_status_known CHECK (status IN ('queued', 'building', 'deploying', 'ready', 'failed', 'superseded', 'stopped')), 
	CONSTRAINT ck_deployments_origin_known CHECK (origin IN ('upload', 'rollback', 'configuration'))
);
INSERT INTO "deployments" VALUES('480661ec-766d-4b52-bbc6-8d627deb2ac7','2deb7232-4148-420b-bb40-9e0ef0b5bc4c','superseded','4330e160dbfad82ba06c4aa4706911fb0a30573d93c803db11759048c77f017b','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}','',NULL,NULL,'',1795752798697,1795752799544,'upload',NULL,'/','',1795752800457,1);
INSERT INTO "deployments" VALUES('9b305b0c-63d9-48f9-9e6e-d8518d133d35','2deb7232-4148-420b-bb40-9e0ef0b5bc4c','ready','00c29510c7d35ea476ccd5c948a6b6ada3e49957758e6efba86551fca0306cc6','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"host_tools":{"caddy":"2.11.7"},"install_inputs":[]}','',NULL,NULL,'',1795752799722,1795752800457,'upload',NULL,'/','',NULL,1);
INSERT INTO "deployments" VALUES('fd51edc1-a3b9-4333-be17-b73a6204a0bd','a13f45d3-036a-47b2-b4a0-bb597ecb95ed','failed','8c3fd1effff038ad73fe65f1cbf2c5895a7654026da75e205f3e04360b33b689','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"host_tools":{"node":"20.20.2"},"install_inputs":[]}','','`exec node index.js` ended with exit code 1 before it listened on a port','crashed','',1795752800768,1795752801328,'upload',NULL,'/','',NULL,1);
INSERT INTO "deployments" VALUES('170e7501-6b68-4eef-9b16-812be1efd203','524f61d5-c4b8-4e7b-8f1e-fbdedae65d36','ready','19aa5d6028a4c6c4f5e76577c45e0d2bf87af7062880e46efff3dc858c1347c9','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"host_tools":{"caddy":"2.11.7"},"install_inputs":[]}','',NULL,NULL,'',1795752801640,1795752802216,'upload',NULL,'/','',NULL,1);
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
INSERT INTO "entries" VALUES(1,'payment:42161:0x3347bcfcedc73f43fd7ffb29932309f82b22eef9f0de5d8270cc04c96f99a67c:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES(2,'payment:42161:0x3347bcfcedc73f43fd7ffb29932309f82b22eef9f0de5d8270cc04c96f99a67c:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(3,'payment:42161:0xf70aa750db049d5e2772bf3adb2302bf28d5968893f65bd7ed74c980c3c23559:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES(4,'payment:42161:0xf70aa750db049d5e2772bf3adb2302bf28d5968893f65bd7ed74c980c3c23559:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(5,'payment:42161:0xc298cf04c5cd3533910f7531913b79721f3a3193ac92f99d85eaf5b16a2963c3:0','wallet:0xbe99c1b5e7bee9048e77667704617a59231ae3f8',500000);
INSERT INTO "entries" VALUES(6,'payment:42161:0xc298cf04c5cd3533910f7531913b79721f3a3193ac92f99d85eaf5b16a2963c3:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES(7,'payment:42161:0xb51faf8b4145365d55c73e9a60fd445b182aebb5a422f4e4eb8ffe9a3082ecae:0','wallet:0xbe99c1b5e7bee9048e77667704617a59231ae3f8',700000);
INSERT INTO "entries" VALUES(8,'payment:42161:0xb51faf8b4145365d55c73e9a60fd445b182aebb5a422f4e4eb8ffe9a3082ecae:0','received:42161:usdc',-700000);
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
INSERT INTO "events" VALUES('evt_33c343405d164662851275e9cd5d7f48','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1,'payment.credited','{"chain_id":42161,"tx_hash":"0x3347bcfcedc73f43fd7ffb29932309f82b22eef9f0de5d8270cc04c96f99a67c","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752798618);
INSERT INTO "events" VALUES('evt_e10e2296868b477b8c0a1d49747e3c8e','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',2,'deployment.ready','{"project_id":"2deb7232-4148-420b-bb40-9e0ef0b5bc4c","deployment_id":"480661ec-766d-4b52-bbc6-8d627deb2ac7","endpoint":"http://kept.localhost:43767"}',1795752799544);
INSERT INTO "events" VALUES('evt_ea23890cc61e4eb68567a4fb31978cad','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',3,'deployment.ready','{"project_id":"2deb7232-4148-420b-bb40-9e0ef0b5bc4c","deployment_id":"9b305b0c-63d9-48f9-9e6e-d8518d133d35","endpoint":"http://kept.localhost:43767"}',1795752800457);
INSERT INTO "events" VALUES('evt_c532935992b94ea0b3f4dfa95f467acb','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',4,'payment.credited','{"chain_id":42161,"tx_hash":"0xf70aa750db049d5e2772bf3adb2302bf28d5968893f65bd7ed74c980c3c23559","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752800746);
INSERT INTO "events" VALUES('evt_d4eba230f54f4ca7b015f0c3d51705bf','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',5,'deployment.failed','{"project_id":"a13f45d3-036a-47b2-b4a0-bb597ecb95ed","deployment_id":"fd51edc1-a3b9-4333-be17-b73a6204a0bd","reason":"`exec node index.js` ended with exit code 1 before it listened on a port","reason_code":"crashed"}',1795752801328);
INSERT INTO "events" VALUES('evt_ba41082dbb134a1680d48e8665359257','0xbe99c1b5e7bee9048e77667704617a59231ae3f8',1,'payment.credited','{"chain_id":42161,"tx_hash":"0xc298cf04c5cd3533910f7531913b79721f3a3193ac92f99d85eaf5b16a2963c3","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752801609);
INSERT INTO "events" VALUES('evt_37933da49dd048379cbe7130c5c4d992','0xbe99c1b5e7bee9048e77667704617a59231ae3f8',2,'deployment.ready','{"project_id":"524f61d5-c4b8-4e7b-8f1e-fbdedae65d36","deployment_id":"170e7501-6b68-4eef-9b16-812be1efd203","endpoint":"http://other.localhost:43767"}',1795752802216);
INSERT INTO "events" VALUES('evt_028f99b138914727a6d1339f3e0c1e04','0xbe99c1b5e7bee9048e77667704617a59231ae3f8',3,'payment.credited','{"chain_id":42161,"tx_hash":"0xb51faf8b4145365d55c73e9a60fd445b182aebb5a422f4e4eb8ffe9a3082ecae","log_index":0,"token":"usdc","amount_token":"700000","amount_usd":0.7}',1795752802489);
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
INSERT INTO "jobs" VALUES('851f9737-84cf-4b6c-9275-6e6244f37ad4','deploy','480661ec-766d-4b52-bbc6-8d627deb2ac7','done','ready',1,1,1795752798697,1795752858734,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0,'a2b4f5fec3be415c9d0b62cba0b584fe');
INSERT INTO "jobs" VALUES('7d514387-4bd4-4871-98df-15b2474f8b00','deploy','9b305b0c-63d9-48f9-9e6e-d8518d133d35','done','ready',1,1,1795752799722,1795752859749,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0,'a2b4f5fec3be415c9d0b62cba0b584fe');
INSERT INTO "jobs" VALUES('ed75c116-3608-494c-821c-4ca563996d0d','deploy','fd51edc1-a3b9-4333-be17-b73a6204a0bd','done','failed',1,1,1795752800768,1795752860781,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0,'a2b4f5fec3be415c9d0b62cba0b584fe');
INSERT INTO "jobs" VALUES('d61d1c2f-c002-4a20-8cca-5f72cbfc8a65','deploy','170e7501-6b68-4eef-9b16-812be1efd203','done','ready',1,1,1795752801640,1795752861645,'0xbe99c1b5e7bee9048e77667704617a59231ae3f8',0,'a2b4f5fec3be415c9d0b62cba0b584fe');
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	expires_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_leases PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('settlements','a2b4f5fec3be415c9d0b62cba0b584fe',1,0);
INSERT INTO "leases" VALUES('search of arbitrum','a2b4f5fec3be415c9d0b62cba0b584fe',1,0);
INSERT INTO "leases" VALUES('search of base','a2b4f5fec3be415c9d0b62cba0b584fe',1,0);
INSERT INTO "leases" VALUES('finality of arbitrum','a2b4f5fec3be415c9d0b62cba0b584fe',1,0);
INSERT INTO "leases" VALUES('refunds of arbitrum','a2b4f5fec3be415c9d0b62cba0b584fe',1,0);
INSERT INTO "leases" VALUES('finality of base','a2b4f5fec3be415c9d0b62cba0b584fe',1,0);
INSERT INTO "leases" VALUES('refunds of base','a2b4f5fec3be415c9d0b62cba0b584fe',1,0);
INSERT INTO "leases" VALUES('suspension','a2b4f5fec3be415c9d0b62cba0b584fe',1,0);
INSERT INTO "leases" VALUES('domains','a2b4f5fec3be415c9d0b62cba0b584fe',1,0);
CREATE TABLE meters (
	gateway TEXT NOT NULL, 
	billed_ms BIGINT NOT NULL, 
	monotonic_ms BIGINT NOT NULL, 
	boot_id TEXT NOT NULL, 
	CONSTRAINT pk_meters PRIMARY KEY (gateway)
);
INSERT INTO "meters" VALUES('a2b4f5fec3be415c9d0b62cba0b584fe',1795752802217,15801393,'4fdc0208-6178-4508-99cc-12101b8dfde5');
CREATE TABLE names (
	unique_name TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	held_until_ms BIGINT, 
	CONSTRAINT pk_names PRIMARY KEY (unique_name)
);
INSERT INTO "names" VALUES('kept','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',NULL);
INSERT INTO "names" VALUES('broken','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',NULL);
INSERT INTO "names" VALUES('other','0xbe99c1b5e7bee9048e77667704617a59231ae3f8',NULL);
CREATE TABLE "payment_uses" (
	chain_id BIGINT NOT NULL, 
	tx_hash TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	project_id TEXT, 
	deployment_id TEXT, 
	CONSTRAINT pk_payment_uses PRIMARY KEY (chain_id, tx_hash, wallet)
);
INSERT INTO "payment_uses" VALUES(42161,'0x3347bcfcedc73f43fd7ffb29932309f82b22eef9f0de5d8270cc04c96f99a67c','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','2deb7232-4148-420b-bb40-9e0ef0b5bc4c','480661ec-766d-4b52-bbc6-8d627deb2ac7');
INSERT INTO "payment_uses" VALUES(42161,'0xf70aa750db049d5e2772bf3adb2302bf28d5968893f65bd7ed74c980c3c23559','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','a13f45d3-036a-47b2-b4a0-bb597ecb95ed','fd51edc1-a3b9-4333-be17-b73a6204a0bd');
INSERT INTO "payment_uses" VALUES(42161,'0xc298cf04c5cd3533910f7531913b79721f3a3193ac92f99d85eaf5b16a2963c3','0xbe99c1b5e7bee9048e77667704617a59231ae3f8','524f61d5-c4b8-4e7b-8f1e-fbdedae65d36','170e7501-6b68-4eef-9b16-812be1efd203');
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
INSERT INTO "payments" VALUES(42161,'0x3347bcfcedc73f43fd7ffb29932309f82b22eef9f0de5d8270cc04c96f99a67c',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,2,'0xfc5f762597bcf3911fdb870732e359cfb82d69b17fbcb5e12f3df43a4bf4dbdc',1795752798618,'credited','finalized',1,'payment:42161:0x3347bcfcedc73f43fd7ffb29932309f82b22eef9f0de5d8270cc04c96f99a67c:0',NULL,'0x722e73a8f15075a602c6994a7a7774215d5992ff');
INSERT INTO "payments" VALUES(42161,'0xf70aa750db049d5e2772bf3adb2302bf28d5968893f65bd7ed74c980c3c23559',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,3,'0x1beff87646cf171938c934c3b09124029de53fe3544fa7bb33bf47492d7a6a5b',1795752800746,'credited','finalized',1,'payment:42161:0xf70aa750db049d5e2772bf3adb2302bf28d5968893f65bd7ed74c980c3c23559:0',NULL,'0x722e73a8f15075a602c6994a7a7774215d5992ff');
INSERT INTO "payments" VALUES(42161,'0xc298cf04c5cd3533910f7531913b79721f3a3193ac92f99d85eaf5b16a2963c3',0,'0xbe99c1b5e7bee9048e77667704617a59231ae3f8','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,4,'0x87700c54a42ef844744e546aaa4f32ccdf5e02def4627646510533a94846bfaf',1795752801609,'credited','finalized',1,'payment:42161:0xc298cf04c5cd3533910f7531913b79721f3a3193ac92f99d85eaf5b16a2963c3:0',NULL,'0x722e73a8f15075a602c6994a7a7774215d5992ff');
INSERT INTO "payments" VALUES(42161,'0xb51faf8b4145365d55c73e9a60fd445b182aebb5a422f4e4eb8ffe9a3082ecae',0,'0xbe99c1b5e7bee9048e77667704617a59231ae3f8','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','700000',700000,5,'0x7624a90d377a07ec1b5232e3d5b868d88d382de1442a36c6d609e4a7a7b0f4ba',1795752802489,'credited','finalized',1,'payment:42161:0xb51faf8b4145365d55c73e9a60fd445b182aebb5a422f4e4eb8ffe9a3082ecae:0',NULL,'0x722e73a8f15075a602c6994a7a7774215d5992ff');
CREATE TABLE postings (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_postings PRIMARY KEY (id)
);
INSERT INTO "postings" VALUES('payment:42161:0x3347bcfcedc73f43fd7ffb29932309f82b22eef9f0de5d8270cc04c96f99a67c:0','payment',1795752798618);
INSERT INTO "postings" VALUES('payment:42161:0xf70aa750db049d5e2772bf3adb2302bf28d5968893f65bd7ed74c980c3c23559:0','payment',1795752800746);
INSERT INTO "postings" VALUES('payment:42161:0xc298cf04c5cd3533910f7531913b79721f3a3193ac92f99d85eaf5b16a2963c3:0','payment',1795752801609);
INSERT INTO "postings" VALUES('payment:42161:0xb51faf8b4145365d55c73e9a60fd445b182aebb5a422f4e4eb8ffe9a3082ecae:0','payment',1795752802489);
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
	volume BOOLEAN DEFAULT 0 NOT NULL, no_space_since_ms BIGINT, 
	CONSTRAINT pk_projects PRIMARY KEY (id), 
	CONSTRAINT ck_projects_status_known CHECK (status IN ('queued', 'building', 'deploying', 'active', 'failed', 'suspended', 'deleting', 'deleted'))
);
INSERT INTO "projects" VALUES('2deb7232-4148-420b-bb40-9e0ef0b5bc4c','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','kept','kept','','active',500000,'9b305b0c-63d9-48f9-9e6e-d8518d133d35',1795752798697,NULL,NULL,NULL,NULL,'/','',0,NULL);
INSERT INTO "projects" VALUES('a13f45d3-036a-47b2-b4a0-bb597ecb95ed','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','broken','broken','','failed',500000,NULL,1795752800768,NULL,NULL,NULL,NULL,'/','',0,NULL);
INSERT INTO "projects" VALUES('524f61d5-c4b8-4e7b-8f1e-fbdedae65d36','0xbe99c1b5e7bee9048e77667704617a59231ae3f8','other','other','','active',500000,'170e7501-6b68-4eef-9b16-812be1efd203',1795752801640,NULL,NULL,NULL,NULL,'/','',0,NULL);
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
INSERT INTO "recipients" VALUES('0x722e73a8f15075a602c6994a7a7774215d5992ff',1795752796118);
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
INSERT INTO "run_intervals" VALUES('5dd06e9a-d217-4d03-9626-7b007bdf470a','2deb7232-4148-420b-bb40-9e0ef0b5bc4c',1795752799546,NULL,1795752799546,0,500000);
INSERT INTO "run_intervals" VALUES('a0648e12-b9e9-46bc-a989-31f2e47eaf08','524f61d5-c4b8-4e7b-8f1e-fbdedae65d36',1795752802217,NULL,1795752802217,0,500000);
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
INSERT INTO "usage" VALUES('524f61d5-c4b8-4e7b-8f1e-fbdedae65d36',1795752000000,67,0,11816960,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES('2deb7232-4148-420b-bb40-9e0ef0b5bc4c',1795752000000,62,0,12111872,0,0,0,0,0,0,0,0);
CREATE TABLE usage_counters (
	deployment_id TEXT NOT NULL, 
	cpu_ms BIGINT NOT NULL, 
	CONSTRAINT pk_usage_counters PRIMARY KEY (deployment_id), 
	CONSTRAINT fk_usage_counters_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id)
);
INSERT INTO "usage_counters" VALUES('170e7501-6b68-4eef-9b16-812be1efd203',67);
INSERT INTO "usage_counters" VALUES('9b305b0c-63d9-48f9-9e6e-d8518d133d35',62);
CREATE TABLE "wallets" (
	address TEXT NOT NULL, 
	balance_micro_usd BIGINT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	warned_hours INTEGER, blocked_reason TEXT, 
	CONSTRAINT pk_wallets PRIMARY KEY (address)
);
INSERT INTO "wallets" VALUES('0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1000000,1795752798618,NULL,NULL);
INSERT INTO "wallets" VALUES('0xbe99c1b5e7bee9048e77667704617a59231ae3f8',1200000,1795752801609,NULL,NULL);
CREATE TABLE watch_cursors (
	chain_id BIGINT NOT NULL, 
	search TEXT NOT NULL, 
	block_number BIGINT NOT NULL, 
	block_hash TEXT NOT NULL, 
	CONSTRAINT pk_watch_cursors PRIMARY KEY (chain_id, search), 
	CONSTRAINT ck_watch_cursors_search_known CHECK (search IN ('confirmed', 'safe'))
);
INSERT INTO "watch_cursors" VALUES(42161,'confirmed',245,'0x0650745e820f5004ddee941d72c4371c5ac91c7799d865d2e15a07cac4789147');
INSERT INTO "watch_cursors" VALUES(42161,'safe',244,'0x9d3d3f9b0c9c58666c061c2523f34796c85e386cf96fff3d505be62cf340344e');
INSERT INTO "watch_cursors" VALUES(8453,'confirmed',241,'0x73739398da7b3dc703df45c7c72d1b656ba3659d3ca73f233dc2051e8b5a50be');
INSERT INTO "watch_cursors" VALUES(8453,'safe',240,'0x6a10c7f705a53254ae96c8aefb6cb0439d9193d277f8de0d8b436782cd5359a5');
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
COMMIT;
