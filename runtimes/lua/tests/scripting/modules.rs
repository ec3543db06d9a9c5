//! Modules, in Lua and in C.

use std::path::Path;

use crate::{Worker, none};

#[test]
fn a_module_beside_the_script_is_found() {
    let mut worker = Worker::new();
    worker.write("helper.lua", "return { answer = function() return {7} end }");
    std::fs::create_dir(worker.folder.path().join("package")).unwrap();
    worker.write("package/init.lua", "return { fail = function() error('from the module') end }");
    worker
        .load("local helper, package = require('helper'), require('package')\nreturn { output = helper.answer, train = require('package/init').fail }")
        .unwrap();
    assert_eq!(worker.output(Vec::new(), none()), Ok(vec![7.0]));
    let error = worker.train(Vec::new(), none()).unwrap_err();
    assert!(error.message.ends_with("init.lua:1: from the module"), "{error:?}");
}

#[test]
fn the_users_paths_come_behind_the_scripts_folder() {
    let elsewhere = tempfile::TempDir::new().unwrap();
    std::fs::write(elsewhere.path().join("one.lua"), "return 1").unwrap();
    std::fs::write(elsewhere.path().join("two.lua"), "return 2").unwrap();
    let path = format!("LUA_PATH={}/?.lua", elsewhere.path().display());
    let mut worker = Worker::with_command(["/usr/bin/env", &path, env!("CARGO_BIN_EXE_dunnage-lua")].map(str::to_owned).to_vec());
    worker.write("one.lua", "return 10");
    worker.load("return { output = function() return { require('one'), require('two') } end }").unwrap();
    assert_eq!(worker.output(Vec::new(), none()), Ok(vec![10.0, 2.0]));
}

#[test]
fn the_systems_c_modules_load() {
    let folders = ["/usr/local/lib".to_owned(), format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH)];
    if !folders.iter().any(|folder| Path::new(folder).join("lua/5.1/cjson.so").exists()) {
        eprintln!("skipped: lua-cjson is not installed");
        return;
    }
    let mut worker = Worker::evaluator();
    assert_eq!(worker.vector("return require('cjson').decode('[1, 2.5]')"), Ok(vec![1.0, 2.5]));
    let error = worker.vector("return require('cjson').decode('[1')").unwrap_err();
    assert_eq!(error.code, "script_error");
    assert!(error.message.contains("Expected comma or array end"), "{error:?}");
}
