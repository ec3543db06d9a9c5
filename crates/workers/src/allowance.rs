//! How much of what a worker prints is passed on.

use std::time::Duration;

use dunnage_types::{LogLevel, LogSource};
use tokio::time::Instant;

use crate::host::Line;

/// So much may be printed at once, and so much a second beyond that; what exceeds it is left out.
const MAX_BURST_BYTES: usize = 16 << 20;
const MAX_BYTES_A_SECOND: usize = 1 << 20;
/// What a line costs beyond its text: about what its record has in the log. Without that a few bytes a line, over and over,
/// would fill the log many times as fast, and keep the server busy with nothing else.
const RECORD_BYTES: usize = 128;
/// What was left out is told no more often than this.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How much a worker may still print: what it prints goes into logs and databases.
#[derive(Debug)]
pub(crate) struct Allowance {
    bytes: usize,
    since: Instant,
    left_out: usize,
    /// When that was told last.
    told: Option<Instant>,
}

impl Allowance {
    pub(crate) fn new(now: Instant) -> Self {
        Self { bytes: MAX_BURST_BYTES, since: now, left_out: 0, told: None }
    }

    /// Lets lines pass as far as they may, and says how much did not when something may again, once a second.
    pub(crate) fn admit(&mut self, lines: Vec<Line>, now: Instant) -> Vec<Line> {
        self.earn(now);
        let mut admitted = Vec::with_capacity(lines.len());
        for line in lines {
            let cost = line.message.len() + RECORD_BYTES;
            if !self.covers(cost) {
                self.left_out += line.message.len() + 1;
                continue;
            }
            self.bytes = self.bytes.saturating_sub(cost);
            if self.told.is_none_or(|told| now - told >= TELL_EVERY) {
                admitted.extend(self.tell_left_out(now));
            }
            admitted.push(line);
        }
        admitted
    }

    fn covers(&self, bytes: usize) -> bool {
        bytes <= self.bytes
    }

    fn earn(&mut self, now: Instant) {
        let milliseconds = usize::try_from((now - self.since).as_millis()).unwrap_or(usize::MAX);
        let earned = milliseconds.saturating_mul(MAX_BYTES_A_SECOND / 1000);
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(MAX_BURST_BYTES);
            self.since = now;
        }
    }

    /// Says how much was left out, if anything was since this was said last.
    pub(crate) fn tell_left_out(&mut self, now: Instant) -> Option<Line> {
        let bytes = std::mem::take(&mut self.left_out);
        if bytes > 0 {
            self.told = Some(now);
        }
        (bytes > 0).then(|| Line { source: LogSource::Server, level: LogLevel::Warning, message: told(bytes) })
    }
}

fn told(bytes: usize) -> String {
    format!(
        "[{bytes} bytes left out: a worker may print {MAX_BYTES_A_SECOND} bytes a second, and {RECORD_BYTES} less for each line]"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::MAX_LINE_BYTES;

    fn printed(bytes: usize) -> Line {
        Line { source: LogSource::Stdout, level: LogLevel::Info, message: "x".repeat(bytes) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_and_the_cut_is_told() {
        let mut allowance = Allowance::new(Instant::now());
        let flood = |lines| (0..lines).map(|_| printed(MAX_LINE_BYTES - RECORD_BYTES)).collect::<Vec<_>>();
        let burst = MAX_BURST_BYTES / MAX_LINE_BYTES;
        assert_eq!(allowance.admit(flood(burst + 3), Instant::now()).len(), burst);
        tokio::time::advance(Duration::from_secs(1)).await;
        let after = allowance.admit(flood(1), Instant::now());
        let told = told(3 * (MAX_LINE_BYTES - RECORD_BYTES + 1));
        assert_eq!((after.len(), after[0].message.as_str(), after[0].source), (2, told.as_str(), LogSource::Server));
        let a_second = MAX_BYTES_A_SECOND / MAX_LINE_BYTES;
        let admitted = 1 + allowance.admit(flood(2 * a_second), Instant::now()).len();
        assert!((a_second - 1..=a_second).contains(&admitted), "{admitted} of {a_second}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_of_once_a_second() {
        let mut allowance = Allowance::new(Instant::now());
        let mut told = 0;
        for _ in 0..3000 {
            let flood = (0..20).map(|_| printed(MAX_LINE_BYTES)).collect();
            told += allowance.admit(flood, Instant::now()).iter().filter(|line| line.source == LogSource::Server).count();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!((2..=3).contains(&told), "{told} in three seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn many_short_lines_are_cut_by_what_their_records_take() {
        let mut allowance = Allowance::new(Instant::now());
        let lines = (0..MAX_BURST_BYTES / 8).map(|_| printed(0)).collect::<Vec<_>>();
        let admitted = allowance.admit(lines, Instant::now()).len();
        assert_eq!(admitted, MAX_BURST_BYTES / RECORD_BYTES);
    }
}
