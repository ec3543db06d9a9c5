//! Where `require` looks: beside the script, then where the user says, then where the system keeps Lua 5.1 modules.

use std::env::consts::ARCH;
use std::path::Path;

use mlua::{Lua, Table};

/// Puts the script's folder in front of, and the system's folders behind, what Lua has taken from `LUA_PATH` and `LUA_CPATH`.
pub(crate) fn set(lua: &Lua, folder: &Path) -> mlua::Result<()> {
    let package: Table = lua.globals().get("package")?;
    let folder = folder.display();
    let path: String = package.get("path")?;
    package.set("path", join(&[format!("{folder}/?.lua"), format!("{folder}/?/init.lua")], &path, &system_path()))?;
    let cpath: String = package.get("cpath")?;
    package.set("cpath", join(&[format!("{folder}/?.so")], &cpath, &system_cpath()))
}

fn system_path() -> Vec<String> {
    let folders = ["/usr/local/share".to_owned(), "/usr/share".to_owned(), format!("/usr/lib/{ARCH}-linux-gnu")];
    folders.iter().flat_map(|folder| [format!("{folder}/lua/5.1/?.lua"), format!("{folder}/lua/5.1/?/init.lua")]).collect()
}

fn system_cpath() -> Vec<String> {
    let folders =
        ["/usr/local/lib".to_owned(), format!("/usr/lib/{ARCH}-linux-gnu"), "/usr/lib64".to_owned(), "/usr/lib".to_owned()];
    folders.iter().map(|folder| format!("{folder}/lua/5.1/?.so")).collect()
}

/// Joins the three parts, each place once.
fn join(first: &[String], middle: &str, last: &[String]) -> String {
    let mut places: Vec<&str> = Vec::new();
    let all = first.iter().map(String::as_str).chain(middle.split(';')).chain(last.iter().map(String::as_str));
    for place in all.filter(|place| !place.is_empty()) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_searched_once_and_the_first_wins() {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            join(&texts(&["/s/?.lua"]), "./?.lua;/u/?.lua;", &texts(&["/u/?.lua", "/v/?.lua"])),
            "/s/?.lua;./?.lua;/u/?.lua;/v/?.lua"
        );
    }
}
