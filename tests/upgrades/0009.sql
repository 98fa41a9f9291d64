BEGIN TRANSACTION;
CREATE TABLE access_log_position (
	id INTEGER NOT NULL, 
	head TEXT NOT NULL, 
	"offset" BIGINT NOT NULL, 
	CONSTRAINT pk_access_log_position PRIMARY KEY (id)
);
INSERT INTO "access_log_position" VALUES(1,'1f10bf728446d0b710528d28008d6b0b',1472);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0009');
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
INSERT INTO "build_runs" VALUES('279c427a-a126-424d-be0f-e4a1d96614a4','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','528974f1-f461-4ce2-953d-9b220c55d829','5db97dd5-4589-41a8-b616-d4c28d98c182',2000000,1795752753341,54,0,0);
INSERT INTO "build_runs" VALUES('06f47e13-7f90-4c34-a740-be5ea1bbeec5','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','528974f1-f461-4ce2-953d-9b220c55d829','0e75595c-caac-4c2b-9a6d-fbadc5f7502d',2000000,1795752753796,27,0,0);
INSERT INTO "build_runs" VALUES('f9e08597-cbea-4a99-9601-f22324121cf7','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','53109089-8cc6-429b-a97a-7586c97239e4','22a427ca-b55a-4279-b6ab-3dc17b9d4f4e',2000000,1795752754127,24,0,0);
INSERT INTO "build_runs" VALUES('abcd026a-4b53-4c5d-8be2-2b302262d987','0x330ca4cb8b2060cea52cd200fcd82eccab323657','1e03e026-6267-4ca0-9156-76339ae1765a','a986cfe9-1ceb-42a3-9020-15e461359967',2000000,1795752754472,34,0,0);
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
INSERT INTO "deployments" VALUES('5db97dd5-4589-41a8-b616-d4c28d98c182','528974f1-f461-4ce2-953d-9b220c55d829','superseded','4330e160dbfad82ba06c4aa4706911fb0a30573d93c803db11759048c77f017b','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"install_inputs":[]}','',NULL,NULL,'',1795752753329,1795752753694,'upload',NULL,'/','',1795752754075,1);
INSERT INTO "deployments" VALUES('0e75595c-caac-4c2b-9a6d-fbadc5f7502d','528974f1-f461-4ce2-953d-9b220c55d829','ready','00c29510c7d35ea476ccd5c948a6b6ada3e49957758e6efba86551fca0306cc6','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"install_inputs":[]}','',NULL,NULL,'',1795752753786,1795752754075,'upload',NULL,'/','',NULL,1);
INSERT INTO "deployments" VALUES('22a427ca-b55a-4279-b6ab-3dc17b9d4f4e','53109089-8cc6-429b-a97a-7586c97239e4','failed','8c3fd1effff038ad73fe65f1cbf2c5895a7654026da75e205f3e04360b33b689','{"stack":"node","directory":"","install":null,"build":null,"start":"exec node index.js","port":3000,"build_env":{},"run_env":{},"because":["index.js is there, without a package.json: nothing to install"],"toolchains":{},"install_inputs":[]}','','`exec node index.js` ended with exit code 1 before it listened on a port','crashed','',1795752754125,1795752754390,'upload',NULL,'/','',NULL,1);
INSERT INTO "deployments" VALUES('a986cfe9-1ceb-42a3-9020-15e461359967','1e03e026-6267-4ca0-9156-76339ae1765a','ready','19aa5d6028a4c6c4f5e76577c45e0d2bf87af7062880e46efff3dc858c1347c9','{"stack":"static","directory":"","install":null,"build":null,"start":"exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<''CADDYFILE''\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE","port":3000,"build_env":{},"run_env":{},"because":["index.html is there: served as files by Caddy"],"toolchains":{},"install_inputs":[]}','',NULL,NULL,'',1795752754468,1795752754804,'upload',NULL,'/','',NULL,1);
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
INSERT INTO "entries" VALUES('payment:42161:0x5fd57aff3602ecd2968ec4e475d920f074735dced2766f5dd85425ffaeb097af:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES('payment:42161:0x5fd57aff3602ecd2968ec4e475d920f074735dced2766f5dd85425ffaeb097af:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES('payment:42161:0xc0465a7976ebcd49b28ded968e1fa570485fe30882620f23da893c0c31aad5b8:0','wallet:0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',500000);
INSERT INTO "entries" VALUES('payment:42161:0xc0465a7976ebcd49b28ded968e1fa570485fe30882620f23da893c0c31aad5b8:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES('payment:42161:0xda4d2c2008d912517fd8f87775c439baa0e4e8629ac6c8d89ae3ed23b554a6c8:0','wallet:0x330ca4cb8b2060cea52cd200fcd82eccab323657',500000);
INSERT INTO "entries" VALUES('payment:42161:0xda4d2c2008d912517fd8f87775c439baa0e4e8629ac6c8d89ae3ed23b554a6c8:0','received:42161:usdc',-500000);
INSERT INTO "entries" VALUES('payment:42161:0x0292f9e7471b29408636e9719268996c0401b3892778348d190a1b8e65f21567:0','wallet:0x330ca4cb8b2060cea52cd200fcd82eccab323657',700000);
INSERT INTO "entries" VALUES('payment:42161:0x0292f9e7471b29408636e9719268996c0401b3892778348d190a1b8e65f21567:0','received:42161:usdc',-700000);
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
INSERT INTO "events" VALUES('evt_9a0a2dec574e476a94ff55c02d19a814','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1,'payment.credited','{"chain_id":42161,"tx_hash":"0x5fd57aff3602ecd2968ec4e475d920f074735dced2766f5dd85425ffaeb097af","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752753326);
INSERT INTO "events" VALUES('evt_6f73d7d4fb9a4e21a9c9c62df1737678','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',2,'deployment.ready','{"project_id":"528974f1-f461-4ce2-953d-9b220c55d829","deployment_id":"5db97dd5-4589-41a8-b616-d4c28d98c182","endpoint":"http://kept.localhost:46621"}',1795752753694);
INSERT INTO "events" VALUES('evt_66ba27bed2364ff488cadc0cefaa1133','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',3,'deployment.ready','{"project_id":"528974f1-f461-4ce2-953d-9b220c55d829","deployment_id":"0e75595c-caac-4c2b-9a6d-fbadc5f7502d","endpoint":"http://kept.localhost:46621"}',1795752754075);
INSERT INTO "events" VALUES('evt_564b0309336142b598120b436ad8a05e','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',4,'payment.credited','{"chain_id":42161,"tx_hash":"0xc0465a7976ebcd49b28ded968e1fa570485fe30882620f23da893c0c31aad5b8","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752754123);
INSERT INTO "events" VALUES('evt_1e30e6be1c134f90950981d6c7633b5e','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',5,'deployment.failed','{"project_id":"53109089-8cc6-429b-a97a-7586c97239e4","deployment_id":"22a427ca-b55a-4279-b6ab-3dc17b9d4f4e","reason":"`exec node index.js` ended with exit code 1 before it listened on a port","reason_code":"crashed"}',1795752754390);
INSERT INTO "events" VALUES('evt_10c32abe2300483b903f377228ce9495','0x330ca4cb8b2060cea52cd200fcd82eccab323657',1,'payment.credited','{"chain_id":42161,"tx_hash":"0xda4d2c2008d912517fd8f87775c439baa0e4e8629ac6c8d89ae3ed23b554a6c8","log_index":0,"token":"usdc","amount_token":"500000","amount_usd":0.5}',1795752754466);
INSERT INTO "events" VALUES('evt_8f17023c7f8c4272a795589fc0e1ffd6','0x330ca4cb8b2060cea52cd200fcd82eccab323657',2,'deployment.ready','{"project_id":"1e03e026-6267-4ca0-9156-76339ae1765a","deployment_id":"a986cfe9-1ceb-42a3-9020-15e461359967","endpoint":"http://other.localhost:46621"}',1795752754804);
INSERT INTO "events" VALUES('evt_c3d036d035254c6dbcf798fc676e3189','0x330ca4cb8b2060cea52cd200fcd82eccab323657',3,'payment.credited','{"chain_id":42161,"tx_hash":"0x0292f9e7471b29408636e9719268996c0401b3892778348d190a1b8e65f21567","log_index":0,"token":"usdc","amount_token":"700000","amount_usd":0.7}',1795752755313);
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
	CONSTRAINT ck_jobs_status_known CHECK (status IN ('queued', 'running', 'done')), 
	CONSTRAINT uq_jobs_kind_subject_id UNIQUE (kind, subject_id)
);
INSERT INTO "jobs" VALUES('e2ee0d4e-0d0b-4289-8bb6-415dfd60be81','deploy','5db97dd5-4589-41a8-b616-d4c28d98c182','done','ready',1,1,1795752753329,1795752813339,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0);
INSERT INTO "jobs" VALUES('730dbe90-d5e0-4158-84d8-2c6bedf64fe5','deploy','0e75595c-caac-4c2b-9a6d-fbadc5f7502d','done','ready',1,1,1795752753786,1795752813795,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0);
INSERT INTO "jobs" VALUES('bf27d47b-199b-47fa-afae-cc7ee47b493e','deploy','22a427ca-b55a-4279-b6ab-3dc17b9d4f4e','done','failed',1,1,1795752754125,1795752814126,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',0);
INSERT INTO "jobs" VALUES('58905ffa-20eb-45f6-a9fa-65ffae1294b6','deploy','a986cfe9-1ceb-42a3-9020-15e461359967','done','ready',1,1,1795752754468,1795752814471,'0x330ca4cb8b2060cea52cd200fcd82eccab323657',0);
CREATE TABLE meter (
	id INTEGER NOT NULL, 
	billed_ms BIGINT NOT NULL, 
	monotonic_ms BIGINT NOT NULL, 
	boot_id TEXT NOT NULL, 
	CONSTRAINT pk_meter PRIMARY KEY (id)
);
INSERT INTO "meter" VALUES(1,1795752752996,15752172,'4fdc0208-6178-4508-99cc-12101b8dfde5');
CREATE TABLE "payment_uses" (
	chain_id BIGINT NOT NULL, 
	tx_hash TEXT NOT NULL, 
	wallet TEXT NOT NULL, 
	project_id TEXT, 
	deployment_id TEXT, 
	CONSTRAINT pk_payment_uses PRIMARY KEY (chain_id, tx_hash, wallet)
);
INSERT INTO "payment_uses" VALUES(42161,'0x5fd57aff3602ecd2968ec4e475d920f074735dced2766f5dd85425ffaeb097af','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','528974f1-f461-4ce2-953d-9b220c55d829','5db97dd5-4589-41a8-b616-d4c28d98c182');
INSERT INTO "payment_uses" VALUES(42161,'0xc0465a7976ebcd49b28ded968e1fa570485fe30882620f23da893c0c31aad5b8','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','53109089-8cc6-429b-a97a-7586c97239e4','22a427ca-b55a-4279-b6ab-3dc17b9d4f4e');
INSERT INTO "payment_uses" VALUES(42161,'0xda4d2c2008d912517fd8f87775c439baa0e4e8629ac6c8d89ae3ed23b554a6c8','0x330ca4cb8b2060cea52cd200fcd82eccab323657','1e03e026-6267-4ca0-9156-76339ae1765a','a986cfe9-1ceb-42a3-9020-15e461359967');
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
INSERT INTO "payments" VALUES(42161,'0x5fd57aff3602ecd2968ec4e475d920f074735dced2766f5dd85425ffaeb097af',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,2,'0xb247fc79a28ae3f4fceaea6df9c4644091d8303b7bd049e51e70d75240fd2d73',1795752753326,'credited','finalized',1,'payment:42161:0x5fd57aff3602ecd2968ec4e475d920f074735dced2766f5dd85425ffaeb097af:0',NULL,'0x61d44d21278cd49250205a0d2564deeec83f5323');
INSERT INTO "payments" VALUES(42161,'0xc0465a7976ebcd49b28ded968e1fa570485fe30882620f23da893c0c31aad5b8',0,'0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,3,'0x5af2edd320a7dcc7ef48d414851eea8b76a9e941590fbbcd6b7fba2e6c2a4a61',1795752754123,'credited','finalized',1,'payment:42161:0xc0465a7976ebcd49b28ded968e1fa570485fe30882620f23da893c0c31aad5b8:0',NULL,'0x61d44d21278cd49250205a0d2564deeec83f5323');
INSERT INTO "payments" VALUES(42161,'0xda4d2c2008d912517fd8f87775c439baa0e4e8629ac6c8d89ae3ed23b554a6c8',0,'0x330ca4cb8b2060cea52cd200fcd82eccab323657','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','500000',500000,4,'0xe3690543e7c1818e66f6f637fd3e8abe6db71523f5dc5edb9906ea7929c71ab7',1795752754466,'credited','finalized',1,'payment:42161:0xda4d2c2008d912517fd8f87775c439baa0e4e8629ac6c8d89ae3ed23b554a6c8:0',NULL,'0x61d44d21278cd49250205a0d2564deeec83f5323');
INSERT INTO "payments" VALUES(42161,'0x0292f9e7471b29408636e9719268996c0401b3892778348d190a1b8e65f21567',0,'0x330ca4cb8b2060cea52cd200fcd82eccab323657','usdc','0xaf88d065e77c8cc2239327c5edb3a432268e5831','700000',700000,5,'0xf20b91397f810c9cc8d742670e03e3d5d9e623859ffee69973f6fa6cea82d3e1',1795752755313,'credited','finalized',1,'payment:42161:0x0292f9e7471b29408636e9719268996c0401b3892778348d190a1b8e65f21567:0',NULL,'0x61d44d21278cd49250205a0d2564deeec83f5323');
CREATE TABLE postings (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_postings PRIMARY KEY (id)
);
INSERT INTO "postings" VALUES('payment:42161:0x5fd57aff3602ecd2968ec4e475d920f074735dced2766f5dd85425ffaeb097af:0','payment',1795752753326);
INSERT INTO "postings" VALUES('payment:42161:0xc0465a7976ebcd49b28ded968e1fa570485fe30882620f23da893c0c31aad5b8:0','payment',1795752754123);
INSERT INTO "postings" VALUES('payment:42161:0xda4d2c2008d912517fd8f87775c439baa0e4e8629ac6c8d89ae3ed23b554a6c8:0','payment',1795752754466);
INSERT INTO "postings" VALUES('payment:42161:0x0292f9e7471b29408636e9719268996c0401b3892778348d190a1b8e65f21567:0','payment',1795752755313);
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
INSERT INTO "projects" VALUES('528974f1-f461-4ce2-953d-9b220c55d829','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','kept','kept','','active',500000,'0e75595c-caac-4c2b-9a6d-fbadc5f7502d',1795752753329,NULL,NULL,NULL,NULL,'/','',0,NULL);
INSERT INTO "projects" VALUES('53109089-8cc6-429b-a97a-7586c97239e4','0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025','broken','broken','','failed',500000,NULL,1795752754125,NULL,NULL,NULL,NULL,'/','',0,NULL);
INSERT INTO "projects" VALUES('1e03e026-6267-4ca0-9156-76339ae1765a','0x330ca4cb8b2060cea52cd200fcd82eccab323657','other','other','','active',500000,'a986cfe9-1ceb-42a3-9020-15e461359967',1795752754468,NULL,NULL,NULL,NULL,'/','',0,NULL);
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
INSERT INTO "recipients" VALUES('0x61d44d21278cd49250205a0d2564deeec83f5323',1795752752344);
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
INSERT INTO "run_intervals" VALUES('bac9e682-4dc2-42df-8f9b-38db57612ce2','528974f1-f461-4ce2-953d-9b220c55d829',1795752753694,NULL,1795752753694,0);
INSERT INTO "run_intervals" VALUES('20f485c9-43d5-486a-a9de-2e444357ac74','1e03e026-6267-4ca0-9156-76339ae1765a',1795752754805,NULL,1795752754805,0);
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
INSERT INTO "usage" VALUES('528974f1-f461-4ce2-953d-9b220c55d829',1795752000000,89,0,11476992,0,0,0,0,0,0,0,0);
INSERT INTO "usage" VALUES('1e03e026-6267-4ca0-9156-76339ae1765a',1795752000000,90,0,12099584,0,0,0,0,0,0,0,0);
CREATE TABLE usage_counters (
	deployment_id TEXT NOT NULL, 
	cpu_ms BIGINT NOT NULL, 
	CONSTRAINT pk_usage_counters PRIMARY KEY (deployment_id), 
	CONSTRAINT fk_usage_counters_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployments (id)
);
INSERT INTO "usage_counters" VALUES('0e75595c-caac-4c2b-9a6d-fbadc5f7502d',89);
INSERT INTO "usage_counters" VALUES('a986cfe9-1ceb-42a3-9020-15e461359967',90);
CREATE TABLE "wallets" (
	address TEXT NOT NULL, 
	balance_micro_usd BIGINT NOT NULL, 
	created_at_ms BIGINT NOT NULL, 
	warned_hours INTEGER, blocked_reason TEXT, 
	CONSTRAINT pk_wallets PRIMARY KEY (address)
);
INSERT INTO "wallets" VALUES('0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025',1000000,1795752753326,NULL,NULL);
INSERT INTO "wallets" VALUES('0x330ca4cb8b2060cea52cd200fcd82eccab323657',1200000,1795752754466,NULL,NULL);
CREATE TABLE watch_cursors (
	chain_id BIGINT NOT NULL, 
	search TEXT NOT NULL, 
	block_number BIGINT NOT NULL, 
	block_hash TEXT NOT NULL, 
	CONSTRAINT pk_watch_cursors PRIMARY KEY (chain_id, search), 
	CONSTRAINT ck_watch_cursors_search_known CHECK (search IN ('confirmed', 'safe'))
);
INSERT INTO "watch_cursors" VALUES(42161,'confirmed',245,'0x1cd700d01bbcde54201e54970b15bd0221e8bc1443dd7036edfb6796f8d743af');
INSERT INTO "watch_cursors" VALUES(42161,'safe',244,'0x59a927af96d04beb51cdf5d140b8232e9e57278a6a271192f638a405e26b09e7');
INSERT INTO "watch_cursors" VALUES(8453,'confirmed',241,'0xd6c50de7917711707f37114cc47761ff54e39d2ba0ec48a88e8c1aeeae9e73a5');
INSERT INTO "watch_cursors" VALUES(8453,'safe',240,'0x90f89d3a90f049c3258ae1b4dd7f93c90b6d9d578bd9d4d5a4de6c4eab3cbc53');
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
CREATE UNIQUE INDEX uq_projects_living_name ON projects (unique_name) WHERE deleted_at_ms IS NULL;
CREATE INDEX ix_projects_wallet_created_at_ms ON projects (wallet, created_at_ms);
CREATE INDEX ix_projects_blocked ON projects (id) WHERE blocked_reason IS NOT NULL;
CREATE INDEX ix_refunds_status ON refunds (status);
CREATE INDEX ix_refunds_chain_id_tx_hash_log_index ON refunds (chain_id, tx_hash, log_index);
CREATE INDEX ix_build_runs_wallet ON build_runs (wallet);
COMMIT;
