//! The suite that every runtime passes, for this one.

use dunnage_runtime::suite::Subject;

fn subject() -> Subject {
    Subject {
        command: vec![env!("CARGO_BIN_EXE_dunnage-lua").to_owned()],
        scripts: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts").into(),
        extension: "lua".to_owned(),
    }
}

dunnage_runtime::backend_suite!(subject());
