//! Text for people: lines, tables and short times.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::time::Duration;

/// Prints one line on standard output.
///
/// # Errors
///
/// The output is closed or full; `println!` would panic.
pub(crate) fn print(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Rows with their columns aligned, the first row being the headings. Ends without a line end.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).fold(String::new(), |mut line, (cell, width)| {
            let _ = write!(line, "{cell:width$}  ");
            line
        });
        cells.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A time in the one unit that suits it: `87ms`, `4.2s`, `12m`, `3h`, `9d`.
pub(crate) fn short_time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{:.1}s", time.as_secs_f64()),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["id", "state"], ["1", "done"], ["äöü", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "id   state\n1    done\näöü");
    }

    #[test]
    fn times_have_one_unit() {
        for (millis, text) in [(0, "0ms"), (999, "999ms"), (4_249, "4.2s"), (59_999, "60.0s"), (60_000, "1m"), (7_200_000, "2h")] {
            assert_eq!(short_time(Duration::from_millis(millis)), text);
        }
        assert_eq!(short_time(Duration::from_secs(9 * 86_400)), "9d");
    }
}
