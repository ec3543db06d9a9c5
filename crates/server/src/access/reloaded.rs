//! What is made of files, and made anew when they change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dunnage_loops::Beat;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::AccessError;
use super::private_file::Stamp;
use crate::problem::chain;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A value made of files. Files that cannot be used leave the value as it was.
pub(crate) struct Reloaded<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, AccessError> + Send + Sync>,
    value: ArcSwap<T>,
    news: watch::Sender<()>,
    stamps: Mutex<Stamps>,
}

type Stamps = Vec<Option<Stamp>>;

impl<T> Reloaded<T> {
    /// Makes the value for the first time.
    ///
    /// # Errors
    ///
    /// What `make` has against the files.
    pub(super) fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, AccessError> + Send + Sync + 'static,
    ) -> Result<Self, AccessError> {
        // Before they are read, so that a change during the reading is one.
        let stamps = stamps(&files);
        let value = ArcSwap::from_pointee(make()?);
        Ok(Self { what, files, make: Box::new(make), value, news: watch::Sender::new(()), stamps: Mutex::new(stamps) })
    }

    /// Whether anything can change.
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// The newest value.
    pub(super) fn current(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Calls `look` with the newest value, without counting who holds it.
    pub(super) fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.load())
    }

    /// Tells of each new value from now on.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Makes the value anew if its files have changed, or if that is `forced`. The log says how it went.
    pub(super) fn refresh(&self, forced: bool) {
        let now = stamps(&self.files);
        let mut seen = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now && !forced {
            return;
        }
        *seen = now;
        match (self.make)() {
            Ok(value) => {
                self.value.store(Arc::new(value));
                self.news.send_replace(());
                tracing::info!(what = self.what, "read anew");
            }
            Err(error) => tracing::error!(what = self.what, error = %chain(&error), "cannot be read anew; those before go on"),
        }
    }
}

impl<T> std::fmt::Debug for Reloaded<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reloaded").field("what", &self.what).finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Stamps {
    files.iter().map(|file| Stamp::of(file)).collect()
}

/// Looks at files; with `true`, as if they had changed.
pub(super) type Refresh = dyn Fn(bool) + Send + Sync;

/// Calls `refresh` every second, and with `true` after SIGHUP.
pub(super) async fn follow(refresh: Arc<Refresh>, beat: Beat) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => Some(hangups),
        Err(error) => {
            tracing::warn!(%error, "cannot listen for SIGHUP; changed files are read all the same");
            None
        }
    };
    loop {
        beat.within(LOOK_EVERY);
        let forced = wait(hangups.as_mut()).await;
        let refresh = Arc::clone(&refresh);
        // Reading a file may take its time.
        if let Err(error) = tokio::task::spawn_blocking(move || refresh(forced)).await {
            tracing::error!(%error, "looking at the files of tokens and certificates failed");
        }
    }
}

/// Waits for the next look; whether it is one that was asked for.
async fn wait(hangups: Option<&mut Signal>) -> bool {
    let asked = async {
        match hangups {
            Some(hangups) => hangups.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::time::timeout(LOOK_EVERY, asked).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::private_file::read_private;

    fn reloaded(path: &std::path::Path) -> Reloaded<Vec<u8>> {
        let read = path.to_owned();
        Reloaded::new("secrets", vec![path.to_owned()], move || Ok(read_private(&read)?)).unwrap()
    }

    fn write(path: &std::path::Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::rename(&new, path).unwrap();
    }

    #[test]
    fn a_changed_file_is_read_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, "one");
        let secrets = reloaded(&path);
        secrets.refresh(false);
        assert_eq!(*secrets.current(), b"one");
        write(&path, "two");
        assert_eq!(*secrets.current(), b"one");
        secrets.refresh(false);
        assert_eq!(*secrets.current(), b"two");
        std::fs::remove_file(&path).unwrap();
        secrets.refresh(false);
        secrets.refresh(true);
        assert_eq!(*secrets.current(), b"two");
        write(&path, "three");
        secrets.refresh(false);
        assert_eq!(*secrets.current(), b"three");
    }

    #[test]
    fn a_file_that_did_not_change_is_read_only_when_asked_for() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let reads = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&reads);
        let secrets = Reloaded::new("secrets", Vec::new(), move || Ok(counted.fetch_add(1, Ordering::Relaxed))).unwrap();
        secrets.refresh(false);
        secrets.refresh(true);
        secrets.refresh(false);
        assert_eq!((reads.load(Ordering::Relaxed), *secrets.current()), (2, 1));
    }
}
