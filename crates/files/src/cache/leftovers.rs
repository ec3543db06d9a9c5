//! What an earlier life of the server left in the folder.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::time::{Duration, SystemTime};

use super::about::{self, About};
use super::folder::{Folder, Identity};
use super::kept::Kept;
use super::name::{FileId, Names};
use crate::source::ObjectAddress;

/// A file that an earlier life left, with its bytes yet to be verified.
#[derive(Debug)]
pub(super) struct Leftover {
    pub(super) kept: Kept,
    /// How long ago S3 was asked for it, if the clock can be believed.
    pub(super) age: Option<Duration>,
}

/// Finds what is of use, oldest first, and removes everything else: files that were being written, those of which nothing is known,
/// those that are not as is told of them, and older copies of the same object.
pub(super) fn take_over(folder: &Folder, now: SystemTime) -> io::Result<Vec<Leftover>> {
    let names = folder.names()?;
    let newest = newest_of_each(names.iter().filter_map(|name| read(folder, name.to_str()?, now)));
    let useful: HashSet<OsString> = newest.iter().flat_map(|left| file_names(&left.kept)).collect();
    for name in names.iter().filter(|name| !useful.contains(*name)) {
        folder.remove(name)?;
    }
    Ok(newest)
}

fn newest_of_each(all: impl Iterator<Item = Leftover>) -> Vec<Leftover> {
    let mut newest: HashMap<ObjectAddress, Leftover> = HashMap::new();
    for left in all {
        match newest.get(&left.kept.object) {
            Some(other) if other.kept.id > left.kept.id => {}
            _ => drop(newest.insert(left.kept.object.clone(), left)),
        }
    }
    let mut newest: Vec<_> = newest.into_values().collect();
    newest.sort_by_key(|left| left.kept.id);
    newest
}

fn file_names(kept: &Kept) -> [OsString; 2] {
    [kept.names.file.clone().into(), kept.names.about.clone().into()]
}

/// The file that `name` tells about, if it does, and if what it tells can be true.
fn read(folder: &Folder, name: &str, now: SystemTime) -> Option<Leftover> {
    let id = Names::id_in(name)?;
    let text = folder.read(name, about::MAX_BYTES).ok()?;
    let about = About::from_bytes(&text)?;
    let names = Names::new(&about.object(), &about.info().etag, id);
    let stat = folder.status(&names.file).ok()?;
    let identity = Identity::of(&stat)?;
    // With a second name, somebody else could change it.
    if names.about != name || stat.st_nlink != 1 || identity.size() != about.info().size {
        return None;
    }
    let bytes = identity.size() + text.len() as u64;
    let path = folder.path().join(&names.file);
    let (object, info, crc64) = (about.object(), about.info(), about.crc64()?);
    let kept = Kept { id, object, info, names, path, identity, crc64, bytes };
    Some(Leftover { kept, age: about.age(now) })
}

/// The first number that none of them has.
pub(super) fn next_id(leftovers: &[Leftover]) -> u64 {
    let FileId(highest) = leftovers.last().map_or(FileId(0), |left| left.kept.id);
    highest + 1
}
