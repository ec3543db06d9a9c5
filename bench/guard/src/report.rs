//! What was counted, beside the limits.

use std::fmt;

use anyhow::bail;

use crate::limits::{Limits, Verdict};
use crate::tools::Tools;

/// The counts of all subjects and their limits. Displayed as a table.
pub struct Report {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    count: u64,
    limit: u64,
}

impl Report {
    /// Puts counts beside their limits.
    ///
    /// # Errors
    ///
    /// When one has no limit.
    pub fn new(counts: &[(&'static str, u64)], limits: &Limits) -> anyhow::Result<Self> {
        let row = |&(name, count): &(&'static str, u64)| Ok(Row { name, count, limit: limits.of(name)? });
        Ok(Self { rows: counts.iter().map(row).collect::<anyhow::Result<_>>()? })
    }

    /// Whether all counts are what they were.
    ///
    /// # Errors
    ///
    /// What has grown or shrunk, and what to do about it. If `here` are other tools than those of the limits, it says so.
    pub fn judge(&self, limits: &Limits, here: &Tools) -> anyhow::Result<()> {
        let complaints: Vec<String> = self.rows.iter().filter_map(Row::complaint).collect();
        if complaints.is_empty() {
            return Ok(());
        }
        let tools = if *here == limits.tools {
            String::new()
        } else {
            format!("\nthe limits were counted with {:?}, and this with {here:?}, which may be the reason", limits.tools)
        };
        bail!("{}{tools}", complaints.join("\n"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:<16}{:>14}{:>10}{:>9}", "", "instructions", "limit", "change")?;
        for row in &self.rows {
            writeln!(formatter, "{:<16}{:>14}{:>10}{:>+8.2}%", row.name, row.count, row.limit, row.change_percent())?;
        }
        Ok(())
    }
}

impl Row {
    #[expect(clippy::cast_precision_loss, reason = "it is only printed")]
    fn change_percent(&self) -> f64 {
        (self.count as f64 / self.limit as f64 - 1.0) * 100.0
    }

    fn complaint(&self) -> Option<String> {
        let Self { name, count, limit } = self;
        let change = format!("`{name}` takes {count} instructions where {limit} are committed ({:+.2} %)", self.change_percent());
        match Verdict::of(*count, *limit) {
            Verdict::Kept => None,
            Verdict::Grown => Some(format!(
                "{change}; undo the growth, or run `make guard-limits` and say in the commit what the instructions buy"
            )),
            Verdict::Shrunk => {
                Some(format!("{change}; run `make guard-limits` and commit the lower limit, so that it hides no growth"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn tools(compiler: &str) -> Tools {
        Tools { compiler: compiler.to_owned(), library: "glibc".to_owned(), valgrind: "valgrind".to_owned() }
    }

    fn judged(count: u64, compiler: &str) -> Result<(), String> {
        let limits = Limits { tools: tools("rustc 1"), instructions: BTreeMap::from([("pool".to_owned(), 1000)]) };
        let report = Report::new(&[("pool", count)], &limits).unwrap();
        report.judge(&limits, &tools(compiler)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_growth_is_named_with_its_size() {
        let complaint = judged(1050, "rustc 1").unwrap_err();
        assert!(complaint.starts_with("`pool` takes 1050 instructions where 1000 are committed (+5.00 %)"), "{complaint}");
        assert!(!complaint.contains("rustc"), "{complaint}");
    }

    #[test]
    fn other_tools_are_named_as_a_possible_reason() {
        assert!(judged(1050, "rustc 2").unwrap_err().contains("rustc 2"));
        assert_eq!(judged(1001, "rustc 2"), Ok(()));
    }

    #[test]
    fn what_has_no_limit_is_refused() {
        let limits = Limits { tools: tools("rustc 1"), instructions: BTreeMap::new() };
        assert!(Report::new(&[("pool", 1)], &limits).is_err());
    }
}
