//! Lets the extension module be linked on macOS, whose linker otherwise insists on finding Python's symbols. Elsewhere the
//! interpreter that loads the module provides them without being asked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "macos") {
        println!("cargo:rustc-cdylib-link-arg=-undefined");
        println!("cargo:rustc-cdylib-link-arg=dynamic_lookup");
    }
}
