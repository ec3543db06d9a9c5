//! Exports the Lua C API from the program, so that C modules such as lua-cjson find it when they are loaded.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=lua.symbols");
    let symbols = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua.symbols");
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => println!("cargo:rustc-link-arg-bins=-Wl,-export_dynamic"),
        _ => println!("cargo:rustc-link-arg-bins=-Wl,--dynamic-list={}", symbols.display()),
    }
}
