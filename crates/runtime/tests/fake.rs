//! The suite, against the runtime without a language.

use dunnage_runtime::suite::Subject;

fn subject() -> Subject {
    Subject {
        command: vec![env!("CARGO_BIN_EXE_dunnage-fake").to_owned()],
        scripts: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts").into(),
        extension: "txt".to_owned(),
    }
}

dunnage_runtime::backend_suite!(subject());
