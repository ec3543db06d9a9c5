//! Files that came with a request itself.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dunnage_types::FileAddress;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::FileProblem;
use crate::local::{etag, size, stat_beneath};

/// The longest name an uploaded file keeps; Linux allows 255 bytes, a few are for our prefix.
const MAX_NAME_BYTES: usize = 200;

/// The folder of all uploads. Each has a folder of its own in it, named by a random id.
#[derive(Debug)]
pub struct Uploads {
    folder: OwnedFd,
    path: PathBuf,
}

impl Uploads {
    /// Opens the folder of all uploads, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if it cannot be made or opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let path = path.canonicalize()?;
        let folder = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { folder, path })
    }

    /// Begins an upload. It is removed when it is dropped, unless it is kept.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if its folder cannot be made.
    pub fn begin(&self) -> io::Result<Upload> {
        let id = Uuid::new_v4();
        let folder = self.path.join(id.to_string());
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Upload { id, folder, files: Vec::new(), current: None, kept: false })
    }

    /// Removes the uploads among `addresses`; one that is gone already is no error.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if one cannot be removed.
    pub fn remove(&self, addresses: &[FileAddress]) -> io::Result<()> {
        let mut ids: Vec<Uuid> = addresses.iter().filter_map(upload_id).collect();
        ids.dedup();
        ids.into_iter().try_for_each(|id| remove_folder(&self.path.join(id.to_string())))
    }

    /// Removes every upload that is not among `wanted` and has not changed for `age`; how many. A younger one may be coming in just now,
    /// to another replica that shares the folder; with an age of zero, nothing may.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the folder cannot be read or an upload cannot be removed.
    pub fn sweep(&self, wanted: &[FileAddress], age: Duration) -> io::Result<usize> {
        let wanted: Vec<String> = wanted.iter().filter_map(upload_id).map(|id| id.to_string()).collect();
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            // Only what we have made ourselves is touched.
            let ours = name.to_str().filter(|name| Uuid::try_parse(name).is_ok());
            if let Some(name) = ours.filter(|name| !wanted.iter().any(|wanted| wanted == name))
                && is_older(&self.path.join(name), age)?
            {
                remove_folder(&self.path.join(name))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    pub(crate) fn find(&self, id: Uuid, name: &str) -> Result<(PathBuf, u64, String), FileProblem> {
        let relative = PathBuf::from(id.to_string()).join(name);
        let stat = stat_beneath(&self.folder, &relative)?;
        Ok((self.path.join(relative), size(&stat), etag(&stat)))
    }
}

/// An upload that is coming in, file after file.
#[derive(Debug)]
pub struct Upload {
    id: Uuid,
    folder: PathBuf,
    files: Vec<(FileAddress, [u8; 32])>,
    current: Option<Current>,
    kept: bool,
}

#[derive(Debug)]
struct Current {
    name: String,
    file: File,
    digest: Sha256,
}

impl Upload {
    /// Begins the next file. Of the client's name for it only the harmless part is kept; scripts may look at the extension.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the file cannot be made.
    pub fn begin_file(&mut self, client_name: &str) -> io::Result<()> {
        let name = format!("{}-{}", self.files.len(), harmless(client_name));
        let file = File::create_new(self.folder.join(&name))?;
        self.current = Some(Current { name, file, digest: Sha256::new() });
        Ok(())
    }

    /// Appends to the file that was begun last.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the disk is full, or no file has been begun.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let current = self.current.as_mut().ok_or_else(|| io::Error::other("no file has been begun"))?;
        current.digest.update(bytes);
        current.file.write_all(bytes)
    }

    /// Ends the file that was begun last, and has it on disk if it is to outlive a crash.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if it cannot be written out, or no file has been begun.
    pub fn end_file(&mut self, durable: bool) -> io::Result<()> {
        let current = self.current.take().ok_or_else(|| io::Error::other("no file has been begun"))?;
        if durable {
            current.file.sync_all()?;
        }
        let address = FileAddress::Upload { id: self.id, name: current.name };
        self.files.push((address, current.digest.finalize().into()));
        Ok(())
    }

    /// Has the upload's folder itself on disk, after its last file.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if it cannot be written out.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()?;
        self.folder.parent().map_or(Ok(()), |uploads| File::open(uploads)?.sync_all())
    }

    /// The files, in order, each with the SHA-256 of its contents.
    #[must_use]
    pub fn files(&self) -> &[(FileAddress, [u8; 32])] {
        &self.files
    }

    /// The files, each with where it lies until the upload is dropped.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&FileAddress, PathBuf)> {
        self.files.iter().map(|(address, _)| {
            let name = if let FileAddress::Upload { name, .. } = address { name.as_str() } else { "" };
            (address, self.folder.join(name))
        })
    }

    /// Leaves the files for later; [`Uploads::remove`] takes them away.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = remove_folder(&self.folder)
        {
            tracing::warn!(upload = %self.id, %error, "an upload cannot be removed; the next start tries again");
        }
    }
}

/// Whether a folder and everything in it last changed longer ago than `age`. What disappears meanwhile is somebody else's to remove.
fn is_older(folder: &Path, age: Duration) -> io::Result<bool> {
    match newest_change(folder) {
        Ok(newest) => Ok(newest.elapsed().is_ok_and(|elapsed| elapsed >= age)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn newest_change(folder: &Path) -> io::Result<SystemTime> {
    let mut newest = std::fs::metadata(folder)?.modified()?;
    for entry in std::fs::read_dir(folder)? {
        newest = newest.max(entry?.metadata()?.modified()?);
    }
    Ok(newest)
}

fn upload_id(address: &FileAddress) -> Option<Uuid> {
    match address {
        FileAddress::Upload { id, .. } => Some(*id),
        _ => None,
    }
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The last component of a client's file name, with everything unusual replaced; its end, where the extension is, if it
/// is too long.
fn harmless(client_name: &str) -> String {
    let last = client_name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |character: char| character.is_alphanumeric() || matches!(character, '.' | '_' | '-');
    let name: String = last.chars().map(|character| if plain(character) { character } else { '_' }).collect();
    let excess = name.len().saturating_sub(MAX_NAME_BYTES);
    let begin = (excess..name.len()).find(|index| name.is_char_boundary(*index)).unwrap_or(0);
    if name.is_empty() { "file".to_owned() } else { name[begin..].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_file(uploads: &Uploads, contents: &[u8]) -> (Upload, FileAddress) {
        let mut upload = uploads.begin().unwrap();
        upload.begin_file("walk.csv").unwrap();
        upload.write(contents).unwrap();
        upload.end_file(true).unwrap();
        let address = upload.files()[0].0.clone();
        (upload, address)
    }

    fn exists(uploads: &Uploads, address: &FileAddress) -> bool {
        let FileAddress::Upload { id, name } = address else { panic!("{address} is no upload") };
        uploads.find(*id, name).is_ok()
    }

    #[test]
    fn an_upload_lives_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path()).unwrap();
        let (upload, address) = one_file(&uploads, b"1,2");
        upload.sync().unwrap();
        upload.keep();
        assert!(exists(&uploads, &address));
        uploads.remove(std::slice::from_ref(&address)).unwrap();
        assert!(!exists(&uploads, &address));
        uploads.remove(&[address]).unwrap();
    }

    #[test]
    fn an_upload_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path()).unwrap();
        let (upload, _) = one_file(&uploads, b"1,2");
        drop(upload);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_sweep_keeps_what_is_wanted_and_what_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path()).unwrap();
        let (wanted, wanted_address) = one_file(&uploads, b"1");
        let (unwanted, unwanted_address) = one_file(&uploads, b"2");
        wanted.keep();
        unwanted.keep();
        std::fs::write(folder.path().join("note.txt"), "not ours").unwrap();
        assert_eq!(uploads.sweep(std::slice::from_ref(&wanted_address), Duration::from_hours(1)).unwrap(), 0, "it is too young");
        assert_eq!(uploads.sweep(std::slice::from_ref(&wanted_address), Duration::ZERO).unwrap(), 1);
        assert!(exists(&uploads, &wanted_address) && !exists(&uploads, &unwanted_address));
        assert!(folder.path().join("note.txt").exists());
    }

    #[test]
    fn a_name_keeps_its_extension_and_loses_its_teeth() {
        for (name, kept) in [
            ("walk.csv", "walk.csv"),
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\y.bin", "y.bin"),
            ("a b\n.txt", "a_b_.txt"),
            ("", "file"),
            ("/", "file"),
            ("..", ".."),
        ] {
            assert_eq!(harmless(name), kept, "{name:?}");
        }
        let long = harmless(&format!("{}.csv", "ä".repeat(300)));
        assert!(long.len() <= MAX_NAME_BYTES && long.ends_with(".csv"));
    }
}
