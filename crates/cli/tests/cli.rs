//! The commands that need no service, through the binary itself.

mod support;

use std::fs;
use std::path::Path;

use support::{dunnage, ended, run};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The line of `dunnage config` for a setting, as value and origin.
fn setting(printed: &str, name: &str) -> (String, String) {
    let line = printed.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    let mut words = line.split_whitespace().skip(1);
    (words.next().unwrap().to_owned(), words.collect::<Vec<_>>().join(" "))
}

#[test]
fn help_begins_with_what_to_do_first() {
    let folder = folder();
    let help = run(folder.path(), &["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("Begin with:\n  dunnage new gait "), "{}", help.stdout);
    let serve = run(folder.path(), &["serve", "--help"]).stdout;
    for heading in ["Service:", "HTTP:", "Workers:", "Jobs:", "Callbacks:", "Storage:", "Logs:", "Examples:"] {
        assert!(serve.contains(&format!("\n{heading}\n")), "no {heading} in\n{serve}");
    }
}

#[test]
fn the_help_of_check_leaves_out_what_only_a_server_needs() {
    let folder = folder();
    let help = run(folder.path(), &["check", "--help"]).stdout;
    assert!(help.contains("--python") && !help.contains("--port") && !help.contains("--lease"), "{help}");
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let folder = folder();
    for arguments in [&[][..], &["serv"], &["serve", "--prot", "1"], &["status", "7"], &["output"], &["train", "a", "--param", "x"]]
    {
        let ended = run(folder.path(), arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}");
    }
}

#[test]
fn each_layer_is_stronger_than_the_one_below() {
    let folder = folder();
    let toml = "port = 3\nmax-batch = 3\nmax_wait = '3ms'\nreload = true\n";
    fs::write(folder.path().join("dunnage.toml"), toml).unwrap();
    fs::write(folder.path().join("model.lua"), "").unwrap();
    let mut command = dunnage(folder.path(), &["config", "--port", "1", "--reload=false"]);
    let printed = ended(command.env("DUNNAGE_PORT", "2").env("DUNNAGE_MAX_BATCH", "2").output().unwrap());
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    for (name, value, origin) in [
        ("port", "1", "flag"),
        ("reload", "false", "flag"),
        ("max-batch", "2", "environment (DUNNAGE_MAX_BATCH)"),
        ("max-wait", "3ms", "file (dunnage.toml)"),
        ("max-queue", "1024", "default"),
        ("files-root", "-", "default"),
        ("config", "dunnage.toml", "default"),
        ("script", "model.lua", "default"),
        ("name", "model", "default"),
        ("data-dir", ".dunnage", "default"),
    ] {
        assert_eq!(setting(&printed.stdout, name), (value.to_owned(), origin.to_owned()), "{name}");
    }
}

#[test]
fn the_file_may_be_elsewhere() {
    let folder = folder();
    fs::create_dir(folder.path().join("etc")).unwrap();
    fs::write(folder.path().join("etc/gait.toml"), "script = 'walk.py'\nname = 'gait'").unwrap();
    let printed = run(folder.path(), &["config", "--config", "etc/gait.toml", "--json"]);
    let settings: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    let expected = serde_json::json!({"value": "etc/walk.py", "source": "file", "file": "etc/gait.toml"});
    assert_eq!(settings["script"], expected);
    assert_eq!(settings["config"], serde_json::json!({"value": "etc/gait.toml", "source": "flag"}));
    assert_eq!(settings["runtime"], serde_json::json!({"value": null, "source": "default"}));
}

#[test]
fn the_file_beside_the_script_counts_and_no_other() {
    let folder = folder();
    assert_eq!(run(folder.path(), &["new", "gait"]).code, Some(0));
    fs::write(folder.path().join("dunnage.toml"), "name = 'other'\nport = 1\ndata-dir = 'others'").unwrap();
    fs::create_dir(folder.path().join("bare")).unwrap();
    fs::write(folder.path().join("bare/model.lua"), "").unwrap();
    for (script, file, name, port, data_dir, shown) in [
        ("gait", "gait/dunnage.toml", "gait", "8080", "gait/.dunnage", "gait/model.py"),
        ("gait/model.py", "gait/dunnage.toml", "gait", "8080", "gait/.dunnage", "gait/model.py"),
        ("bare", "-", "model", "8080", "bare/.dunnage", "bare/model.lua"),
    ] {
        let by_flag = run(folder.path(), &["config", script]);
        let by_variable = ended(dunnage(folder.path(), &["config"]).env("DUNNAGE_SCRIPT", script).output().unwrap());
        for printed in [by_flag, by_variable] {
            let found = ["config", "name", "port", "data-dir", "script"].map(|name| setting(&printed.stdout, name).0);
            assert_eq!(found, [file, name, port, data_dir, shown], "{script}");
            assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{script}");
        }
    }
    let named = run(folder.path(), &["config", "gait", "--config", "dunnage.toml"]).stdout;
    assert_eq!(setting(&named, "name"), ("other".to_owned(), "file (dunnage.toml)".to_owned()));
    assert!(!folder.path().join("gait/.dunnage").exists());
}

#[test]
fn a_folder_stands_for_the_script_its_file_names() {
    let folder = folder();
    fs::create_dir(folder.path().join("gait")).unwrap();
    fs::write(folder.path().join("gait/walk.py"), "").unwrap();
    fs::write(folder.path().join("gait/dunnage.toml"), "script = 'walk.py'\ndata-dir = 'kept'").unwrap();
    let printed = run(folder.path(), &["config", "gait"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    let found = ["script", "name", "data-dir"].map(|name| setting(&printed.stdout, name).0);
    assert_eq!(found, ["gait/walk.py", "walk", "gait/kept"]);
}

#[test]
fn host_names_are_a_list_in_every_layer() {
    let folder = folder();
    fs::write(folder.path().join("model.lua"), "").unwrap();
    fs::write(folder.path().join("dunnage.toml"), "allowed-host = ['a.example', 'b.example']").unwrap();
    let allowed = |command: &mut std::process::Command| setting(&ended(command.output().unwrap()).stdout, "allowed-host");
    let from = |names: &str, source: &str| (names.to_owned(), source.to_owned());
    let mut plain = dunnage(folder.path(), &["config"]);
    assert_eq!(allowed(&mut plain), from("a.example,b.example", "file (dunnage.toml)"));
    let by_variable = plain.env("DUNNAGE_ALLOWED_HOST", "c.example,d.example");
    assert_eq!(allowed(by_variable), from("c.example,d.example", "environment (DUNNAGE_ALLOWED_HOST)"));
    let mut by_flag = dunnage(folder.path(), &["config", "--allowed-host", "e.example", "--allowed-host", "f.example"]);
    assert_eq!(allowed(&mut by_flag), from("e.example,f.example", "flag"));
    fs::write(folder.path().join("dunnage.toml"), "allowed-host = []").unwrap();
    assert_eq!(allowed(&mut dunnage(folder.path(), &["config"])), from("-", "file (dunnage.toml)"));
}

#[test]
fn config_says_what_serve_would_refuse() {
    let folder = folder();
    fs::write(folder.path().join("model.lua"), "").unwrap();
    let ended = run(folder.path(), &["config", "--workers", "0", "--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "error: settings: `--workers` must be at least 1\n"));
    let settings: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(settings["workers"], serde_json::json!({"value": "0", "source": "flag"}));
}

#[test]
fn a_secret_is_masked_wherever_it_was_said() {
    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let folder = folder();
    fs::write(folder.path().join("model.lua"), "").unwrap();
    let masked = |source: &str| ("…".to_owned(), source.to_owned());
    let by_flag = run(folder.path(), &["config", "--callback-secret", SECRET]);
    assert_eq!((by_flag.code, setting(&by_flag.stdout, "callback-secret")), (Some(0), masked("flag")));
    let ended_with = |arguments: &[&str], secret: &str| {
        ended(dunnage(folder.path(), arguments).env("DUNNAGE_CALLBACK_SECRET", secret).output().unwrap())
    };
    let by_variable = ended_with(&["config", "--json"], SECRET);
    let settings: serde_json::Value = serde_json::from_str(&by_variable.stdout).unwrap();
    assert_eq!(settings["callback-secret"]["value"], "…");
    for arguments in [&["serve", "--help"][..], &["config"], &["serve", "--prot"], &["serve", "--port", "x"]] {
        let printed = ended_with(arguments, "whsec_hush");
        assert!(!format!("{printed:?}").contains("hush"), "{printed:?}");
    }
    let refused = ended_with(&["serve"], "whsec_hush");
    let expected = "error: settings: `--callback-secret`: a secret is `whsec_` and the base64 of 24 to 64 random bytes\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(2), expected));
    fs::write(folder.path().join("dunnage.toml"), format!("callback-secret = '{SECRET}'")).unwrap();
    let by_file = run(folder.path(), &["config"]);
    assert_eq!(setting(&by_file.stdout, "callback-secret"), masked("file (dunnage.toml)"));
    assert_eq!(
        setting(&run(folder.path(), &["config", "--config=/dev/null"]).stdout, "callback-secret"),
        ("-".to_owned(), "default".to_owned())
    );
}

#[test]
fn an_unknown_variable_is_only_warned_of() {
    let folder = folder();
    fs::write(folder.path().join("model.lua"), "").unwrap();
    let ended = ended(dunnage(folder.path(), &["config"]).env("DUNNAGE_PROT", "1").output().unwrap());
    let expected = "warning: the environment variable `DUNNAGE_PROT` is unknown and has no effect; did you mean `DUNNAGE_PORT`?\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), expected));
}

#[test]
fn a_folder_for_the_data_that_cannot_be_made_is_told_by_its_flag() {
    let folder = folder();
    fs::write(folder.path().join("model.lua"), "").unwrap();
    let root = folder.path().canonicalize().unwrap();
    for command in ["config", "serve"] {
        let ended = run(&root, &[command, "--data-dir", "model.lua/data"]);
        let blamed = root.join("model.lua");
        let expected =
            format!("error: settings: `--data-dir model.lua/data` cannot be made: `{}` is not a folder\n", blamed.display());
        assert_eq!(ended.stderr, expected, "{command}");
    }
    // Even root, whom no permission stops, can make nothing there.
    let ended = run(&root, &["serve", "--data-dir", "/proc/dunnage"]).stderr;
    assert!(ended.contains("`--data-dir /proc/dunnage`"), "{ended}");
}

#[test]
fn a_switch_needs_no_value() {
    let folder = folder();
    let printed = run(folder.path(), &["config", "--reload", "model.py"]).stdout;
    assert_eq!(setting(&printed, "reload"), ("true".to_owned(), "flag".to_owned()));
    assert_eq!(setting(&printed, "script"), ("model.py".to_owned(), "flag".to_owned()));
    let mut by_environment = dunnage(folder.path(), &["config"]);
    let printed = ended(by_environment.env("DUNNAGE_RELOAD", "1").output().unwrap()).stdout;
    assert_eq!(setting(&printed, "reload").1, "environment (DUNNAGE_RELOAD)");
}

#[test]
fn problems_with_the_file_are_told_with_its_name() {
    let folder = folder();
    fs::write(folder.path().join("dunnage.toml"), "prot = 1\ntimeout = 30\n").unwrap();
    let ended = run(folder.path(), &["serve"]);
    let expected = "error: `dunnage.toml`: 2 problems\n  - unknown key `prot`; did you mean `port`?\n  - `timeout` must be a time such \
                    as \"30s\", found the number 30\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), expected));
}

#[test]
fn a_wrong_variable_is_told_by_its_name() {
    let folder = folder();
    let ended = ended(dunnage(folder.path(), &["serve"]).env("DUNNAGE_TIMEOUT", "30").output().unwrap());
    let expected = "error: environment variable `DUNNAGE_TIMEOUT`: invalid value '30' for '--timeout <TIME>': a time is written like \
                    500ms, 2s, 5m, 24h or 7d\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), expected));
}

#[test]
fn every_problem_with_the_settings_is_told_at_once() {
    let folder = folder();
    let ended = run(folder.path(), &["serve", "--workers", "0", "--host", "0.0.0.0"]);
    let expected = "error: settings: 3 problems\n  - there is no `model.py` or `model.lua` here; name the script, or make one with \
                    `dunnage new NAME`\n  - `--workers` must be at least 1\n  - on `--host 0.0.0.0` anybody who can reach this machine \
                    could use the service; name who may with `--token-file` or `DUNNAGE_TOKENS`, or add \
                    `--allow-anonymous` (`DUNNAGE_ALLOW_ANONYMOUS=true`) if that is meant\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), expected));
}

#[test]
fn new_makes_a_folder_and_says_what_to_do_next() {
    let folder = folder();
    let ended = run(folder.path(), &["new", "My Gait", "--lang", "lua"]);
    let expected = "made `My Gait` with model.lua, dunnage.toml, README.md, .gitignore\n\nNext:\n  cd 'My Gait'\n  dunnage serve \
                    --reload\n\nThen read README.md, and change model.lua.\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expected));
    let toml = fs::read_to_string(folder.path().join("My Gait/dunnage.toml")).unwrap();
    assert!(toml.contains("script = \"model.lua\"\nname = \"my-gait\"\n"), "{toml}");
    let printed = run(&folder.path().join("My Gait"), &["config"]).stdout;
    assert_eq!(setting(&printed, "name"), ("my-gait".to_owned(), "file (dunnage.toml)".to_owned()));
}

#[test]
fn new_says_how_to_go_there() {
    let folder = folder();
    let here = folder.path().join("here");
    fs::create_dir(&here).unwrap();
    for (arguments, next) in [(&["new", "."][..], "\nNext:\n  dunnage"), (&["new", "--", "-x"], "\nNext:\n  cd ./-x\n  dunnage")] {
        let ended = run(&here, arguments);
        assert!(ended.code == Some(0) && ended.stdout.contains(next), "{ended:?}");
    }
    let ended = run(&here, &["new", "/"]);
    let expected = "error: `/` has no name that could be the service's; name a folder\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), expected));
}

#[test]
fn new_overwrites_nothing() {
    let folder = folder();
    fs::write(folder.path().join("README.md"), "mine").unwrap();
    let ended = run(folder.path(), &["new", "."]);
    let expected = "error: `.` already has README.md; nothing was written, choose another name\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), expected));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(folder.path().join("README.md")).unwrap(), "mine");
}

#[test]
fn completions_are_there_for_the_usual_shells() {
    let folder = folder();
    for (shell, word) in [("bash", "complete -F _dunnage"), ("zsh", "#compdef dunnage"), ("fish", "complete -c dunnage")] {
        let ended = run(folder.path(), &["completions", shell]);
        assert!(ended.code == Some(0) && ended.stdout.contains(word) && ended.stdout.contains("idempotency-key"), "{shell}");
    }
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let folder = folder();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = dunnage(folder.path(), &["config"]).stdout(writer).output().unwrap();
    assert_eq!((status.status.code(), status.stderr.len()), (Some(0), 0));
}

#[test]
fn the_written_reference_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = folder();
    for (reference, file) in [("env", ".env.sample"), ("markdown", "docs/configuration.md")] {
        let printed = run(folder.path(), &["config", "--reference", reference]).stdout;
        let written = fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(written == printed, "write it anew: cargo run -p dunnage-cli -- config --reference {reference} > {file}");
    }
}
