//! The settings by which workers are replaced that have not died.

use bytesize::ByteSize;
use clap::Args;
use dunnage_server::Recycling;

use super::value;

/// After what a worker is replaced; 0 stands for never.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecycleSettings {
    /// Replace a worker after about so many requests or jobs, a tenth more or less; 0 never does
    #[arg(long, env = "DUNNAGE_RECYCLE_AFTER", value_name = "COUNT", default_value_t = 0)]
    pub(crate) recycle_after: u32,
    /// Replace a worker that takes up so much memory; 0 never does
    #[arg(long, env = "DUNNAGE_RECYCLE_RSS", value_name = "SIZE", default_value = "0", value_parser = value::size)]
    pub(crate) recycle_rss: ByteSize,
    /// Replace a worker after so many failed calls in a row; 0 never does
    #[arg(long, env = "DUNNAGE_RECYCLE_FAILURES", value_name = "COUNT", default_value_t = 0)]
    pub(crate) recycle_failures: u32,
}

impl RecycleSettings {
    pub(super) fn config(&self) -> Recycling {
        Recycling {
            requests: Some(self.recycle_after.into()).filter(|count| *count > 0),
            rss_bytes: Some(self.recycle_rss.as_u64()).filter(|bytes| *bytes > 0),
            failures: Some(self.recycle_failures).filter(|count| *count > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: RecycleSettings,
    }

    fn config(arguments: &[&str]) -> Recycling {
        Only::parse_from([&["serve"], arguments].concat()).settings.config()
    }

    #[test]
    fn zero_is_never_and_so_is_the_default() {
        let zeros = ["--recycle-after", "0", "--recycle-rss", "0", "--recycle-failures", "0"];
        assert_eq!([config(&[]), config(&zeros)], [Recycling::default(); 2]);
        let set = config(&["--recycle-after", "9", "--recycle-rss", "1GiB", "--recycle-failures", "3"]);
        assert_eq!(set, Recycling { requests: Some(9), rss_bytes: Some(1 << 30), failures: Some(3) });
    }
}
