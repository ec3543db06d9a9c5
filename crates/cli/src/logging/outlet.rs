//! Where log lines wait until they are taken, so that whoever logs never does.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// So much may wait behind what is being written. Bytes are counted and not lines, as one of a script's may be two hundred times as long as another.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// A log that is written by a thread of its own. Cheap to clone.
///
/// Nobody waits for a line to be written. Where the reader does not keep up, lines wait, and when as many wait as may, further ones are
/// left out and counted; once the log is taken again, it says how many. Lines that cannot be written at all are counted, too.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    lost: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    left_out: u64,
    is_writing: bool,
}

impl State {
    fn has_room(&self, bytes: usize) -> bool {
        self.waiting.len() + bytes <= MAX_WAITING_BYTES
    }
}

impl Outlet {
    /// Begins to write to `sink` what is logged. The lines that nobody gets are added to `lost`.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the system refuses another thread.
    pub(crate) fn start(sink: impl Write + Send + 'static, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let outlet = Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), lost }));
        let writing = outlet.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writing.0.write_all(sink))?;
        Ok(outlet)
    }

    /// Waits until everything has been written, but no longer than `patience`.
    pub(crate) fn flush_within(&self, patience: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        // Whether it was in time makes no difference to whoever ends now.
        let _ = self.0.changed.wait_timeout_while(self.0.state(), patience, is_busy);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if !state.has_room(line.len()) {
            state.left_out += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        self.changed.notify_all();
    }

    fn write_all(&self, mut sink: impl Write) -> ! {
        loop {
            let (lines, left_out) = self.take();
            match sink.write_all(&lines) {
                Ok(()) if left_out > 0 => tracing::warn!(left_out, "the log was not taken in time; lines were left out"),
                Ok(()) => {}
                // To say so in the log would be one more line that cannot be written.
                Err(_) => {
                    self.lost.fetch_add(count(&lines), Ordering::Relaxed);
                }
            }
            self.state().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// What waits, once something does, and how many lines have been left out since the last time.
    fn take(&self) -> (Vec<u8>, u64) {
        let waited = self.changed.wait_while(self.state(), |state| state.waiting.is_empty());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        (std::mem::take(&mut state.waiting), std::mem::take(&mut state.left_out))
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl MakeWriter<'_> for Outlet {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Takes whole lines, as the log writes them.
impl Write for Outlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn lost(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    #[test]
    fn lines_come_out_in_their_order_and_whole() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::start(writer, Arc::default()).unwrap();
        let lines: Vec<String> = (0..1000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| outlet.write_all(line.as_bytes()).unwrap());
        outlet.flush_within(PATIENCE);
        let mut read = vec![0; lines.concat().len()];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), lines.concat());
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (mut reader, writer) = io::pipe().unwrap();
        let counter = Arc::new(AtomicU64::new(0));
        let mut outlet = Outlet::start(writer, Arc::clone(&counter)).unwrap();
        let line = [vec![b'x'; 999], vec![b'\n']].concat();
        // What is being written when the reader stops may be as much as what waits behind it.
        let (waiting, more) = (MAX_WAITING_BYTES / line.len(), 1000);
        let lines = 2 * waiting + more;
        (0..lines).for_each(|_| outlet.write_all(&line).unwrap());
        outlet.flush_within(Duration::from_millis(1));
        let lost = lost(&counter);
        assert!((1..=(waiting + more) as u64).contains(&lost), "{lost}");
        let mut taken = vec![0; (lines - usize::try_from(lost).unwrap()) * line.len()];
        reader.read_exact(&mut taken).unwrap();
        assert!(taken.chunks(line.len()).all(|chunk| chunk == line), "what was not left out is whole");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let counter = Arc::new(AtomicU64::new(0));
        let mut outlet = Outlet::start(writer, Arc::clone(&counter)).unwrap();
        outlet.write_all(b"to nobody\n").unwrap();
        outlet.write_all(b"nor this\n").unwrap();
        outlet.flush_within(PATIENCE);
        assert_eq!(lost(&counter), 2);
    }
}
