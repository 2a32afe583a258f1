PRAGMA application_id = 1633907820;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE begun (
        token TEXT NOT NULL UNIQUE,
        at TEXT NOT NULL,
        about TEXT NOT NULL,
        runs TEXT NOT NULL
    ) STRICT;
CREATE TABLE claim (
        key TEXT PRIMARY KEY,
        owner TEXT NOT NULL REFERENCES owner (token) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
CREATE TABLE discrepancy (
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        what TEXT NOT NULL,
        kept TEXT NOT NULL,
        found TEXT NOT NULL,
        noted TEXT NOT NULL,
        PRIMARY KEY (run, what, kept, found)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE history (
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        epoch INTEGER NOT NULL,
        figures TEXT NOT NULL,
        PRIMARY KEY (run, epoch)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "history" VALUES(1,1,'{"epoch":1,"train_loss":2.4310377441076847,"valid_loss":2.422226667404175,"valid_acc":0.10555555555555556,"train_loss_best":true,"valid_loss_best":true,"valid_acc_best":true,"dur":0.7911905350010784}');
INSERT INTO "history" VALUES(2,1,'{"epoch":1,"train_loss":2.4058611250387942,"valid_loss":2.404989719390869,"valid_acc":0.1,"train_loss_best":true,"valid_loss_best":true,"valid_acc_best":true,"dur":0.8470965440010332}');
CREATE TABLE inside (
        run INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
        looks TEXT NOT NULL
    ) STRICT;
CREATE TABLE owner (
        token TEXT PRIMARY KEY,
        expires REAL NOT NULL,
        host TEXT NOT NULL,
        machine TEXT NOT NULL,
        boot TEXT NOT NULL,
        space TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        settings TEXT NOT NULL,
        test_loss ANY CHECK (typeof(test_loss) IN ('real', 'null')),
        test_acc ANY CHECK (typeof(test_acc) IN ('real', 'null')),
        seconds ANY CHECK (typeof(seconds) IN ('real', 'null')),
        how TEXT NOT NULL,
        alone TEXT NOT NULL,
        failure TEXT NOT NULL,
        passing INTEGER NOT NULL,
        epochs INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        host TEXT NOT NULL,
        finished TEXT NOT NULL
    ) STRICT;
INSERT INTO "run" VALUES(1,'f80382e33ffdbd4fe10aa8f4f8a1c5b0385bea848805d1d87f74cfff80d02373','{"activation":"relu","net":{"built":{"class":"actlab.nets:NeuralNet","modules":{"dict":{"fc1":{"class":"torch.nn.modules.linear:Linear","parameters":{"dict":{"weight":{"dtype":"float32","kind":"parameter","shape":[2,64],"sha256":"f7d25ccd11e4f822f9b345ad514b0bbb7d94fdc3ce2c1dd5bdd4cd0a466ce379"},"bias":{"dtype":"float32","kind":"parameter","shape":[2],"sha256":"15ccb822116f4e2670f2f99c1adee7bf07e20f3d7468a3cfebfab369e028dd0a"}},"order":["weight","bias"]},"attributes":{"in_features":64,"out_features":2}},"fc2":{"class":"torch.nn.modules.linear:Linear","parameters":{"dict":{"weight":{"dtype":"float32","kind":"parameter","shape":[1,2],"sha256":"b2f60b38e6cb4bec72aa8aa21791350b5835f2de45bff194d9b2f6a6e571d4d4"},"bias":{"dtype":"float32","kind":"parameter","shape":[1],"sha256":"950ab5cdc3f860371073ab9575aeb7ac612be0460b80e03ffc89dae5e884d3bc"}},"order":["weight","bias"]},"attributes":{"in_features":2,"out_features":1}},"fc3":{"class":"torch.nn.modules.linear:Linear","parameters":{"dict":{"weight":{"dtype":"float32","kind":"parameter","shape":[10,1],"sha256":"00c5d49bb2281bdb9b7b291503c7327bba4b0dad9b63037b8e3dc34393251806"},"bias":{"dtype":"float32","kind":"parameter","shape":[10],"sha256":"eb792cb4362791f14493eb8f3fbb2b304c284f98814f7204d7b1980fac86a438"}},"order":["weight","bias"]},"attributes":{"in_features":1,"out_features":10}},"activation1":{"class":"actlab.nn:ReLU","attributes":{"inplace":false}},"activation2":{"class":"actlab.nn:ReLU","attributes":{"inplace":false}}},"order":["fc1","fc2","fc3","activation1","activation2"]}},"maker":{"partial":{"code":"actlab.fleet.skorch_nets:_built"},"args":[{"code":"actlab.nets:NeuralNet"},{"dict":{"activation":"relu","num_classes":10,"num_features":64,"num_units":2}}],"keywords":{}}},"loss":{"class":"torch.nn.modules.loss:CrossEntropyLoss","buffers":{"dict":{"weight":null}},"attributes":{"ignore_index":-100,"label_smoothing":0.0,"reduction":"mean"}},"optimizer":{"name":"SGD","numbers":{"lr":0.01,"momentum":0.95,"weight_decay":0.0},"flags":[]},"epochs":1,"batch_size":128,"shuffle":false,"drop_last":false,"piece":0,"schedule":null,"stopping":null,"scoring":"classes","device":"cpu","precision":"float32","seed":0,"fold":0,"data":"522bf7a8f6d541ce","versions":{"actlab":"0.2.0","torch":"2.13.0+cpu"},"rows":{"sha256":"f95df5084a072a9a1d2349645f147a45c23844cba17450a86302c8f78c8cdedb","length":718},"valid":{"sha256":"58f864b2b876540740a9610507d60970effc9c559b883feeaa3253e8862c8c53","length":180},"test":{"sha256":"0f2f1b8bf624a739eb6f328971a5734395b6ef1683e453274884376211b48658","length":899}}',2.42633271217346191406e+00,1.0122358175750834075e-01,9.19208098999661160632e-01,'by autograd','','',0,1,1,'laptop','2026-11-28T22:51:57+00:00');
INSERT INTO "run" VALUES(2,'b77788969522171a41679df4ac0d604b0dbaa9105fd0e3f37be12dd8dfa71da6','{"activation":"relu","net":{"built":{"class":"actlab.nets:NeuralNet","modules":{"dict":{"fc1":{"class":"torch.nn.modules.linear:Linear","parameters":{"dict":{"weight":{"dtype":"float32","kind":"parameter","shape":[2,64],"sha256":"f7d25ccd11e4f822f9b345ad514b0bbb7d94fdc3ce2c1dd5bdd4cd0a466ce379"},"bias":{"dtype":"float32","kind":"parameter","shape":[2],"sha256":"15ccb822116f4e2670f2f99c1adee7bf07e20f3d7468a3cfebfab369e028dd0a"}},"order":["weight","bias"]},"attributes":{"in_features":64,"out_features":2}},"fc2":{"class":"torch.nn.modules.linear:Linear","parameters":{"dict":{"weight":{"dtype":"float32","kind":"parameter","shape":[1,2],"sha256":"b2f60b38e6cb4bec72aa8aa21791350b5835f2de45bff194d9b2f6a6e571d4d4"},"bias":{"dtype":"float32","kind":"parameter","shape":[1],"sha256":"950ab5cdc3f860371073ab9575aeb7ac612be0460b80e03ffc89dae5e884d3bc"}},"order":["weight","bias"]},"attributes":{"in_features":2,"out_features":1}},"fc3":{"class":"torch.nn.modules.linear:Linear","parameters":{"dict":{"weight":{"dtype":"float32","kind":"parameter","shape":[10,1],"sha256":"00c5d49bb2281bdb9b7b291503c7327bba4b0dad9b63037b8e3dc34393251806"},"bias":{"dtype":"float32","kind":"parameter","shape":[10],"sha256":"eb792cb4362791f14493eb8f3fbb2b304c284f98814f7204d7b1980fac86a438"}},"order":["weight","bias"]},"attributes":{"in_features":1,"out_features":10}},"activation1":{"class":"actlab.nn:ReLU","attributes":{"inplace":false}},"activation2":{"class":"actlab.nn:ReLU","attributes":{"inplace":false}}},"order":["fc1","fc2","fc3","activation1","activation2"]}},"maker":{"partial":{"code":"actlab.fleet.skorch_nets:_built"},"args":[{"code":"actlab.nets:NeuralNet"},{"dict":{"activation":"relu","num_classes":10,"num_features":64,"num_units":2}}],"keywords":{}}},"loss":{"class":"torch.nn.modules.loss:CrossEntropyLoss","buffers":{"dict":{"weight":null}},"attributes":{"ignore_index":-100,"label_smoothing":0.0,"reduction":"mean"}},"optimizer":{"name":"SGD","numbers":{"lr":0.01,"momentum":0.95,"weight_decay":0.0},"flags":[]},"epochs":1,"batch_size":128,"shuffle":false,"drop_last":false,"piece":0,"schedule":null,"stopping":null,"scoring":"classes","device":"cpu","precision":"float32","seed":0,"fold":1,"data":"522bf7a8f6d541ce","versions":{"actlab":"0.2.0","torch":"2.13.0+cpu"},"rows":{"sha256":"1a05fdf8633a80f19a0fb80e4512d5d7ecf2b8a3dac571d83195327499f78e0e","length":719},"valid":{"sha256":"238040e2b1170ca3b5ca23919aeb43048d892695d47a749c9ecb052633954af6","length":180},"test":{"sha256":"fd35edb90c23ff06dc0150bf9985f33b480a5e54d685564bd5e46c0f2d41f29a","length":898}}',2.40022945404052734375e+00,1.01336302895322943884e-01,9.59109250001347390934e-01,'by autograd','','',0,1,1,'laptop','2026-11-28T22:51:58+00:00');
CREATE TABLE weights (
        run INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
        names TEXT NOT NULL,
        state BLOB NOT NULL
    ) STRICT;
CREATE INDEX claim_owner ON claim (owner);
COMMIT;
