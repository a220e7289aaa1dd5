//! Columns that stay aligned however long the names are, with details below a row.

use unicode_width::UnicodeWidthStr;

use super::output::printable;

/// Spaces between two columns.
const GAP: usize = 2;

/// A table: a header, rows of cells, and lines of detail indented below the row before them.
pub struct Table {
    columns: usize,
    lines: Vec<Line>,
}

enum Line {
    Cells(Vec<String>),
    Detail(String),
}

impl Table {
    /// A table with these column heads.
    #[must_use]
    pub fn new(heads: &[&str]) -> Self {
        let cells = heads.iter().map(|head| (*head).to_owned()).collect();
        Self { columns: heads.len(), lines: vec![Line::Cells(cells)] }
    }

    /// Adds a row; surplus cells are dropped, an empty cell shows as `-`.
    pub fn row(&mut self, cells: &[&str]) {
        let cell = |text: &&str| if text.is_empty() { "-".to_owned() } else { printable(text) };
        self.lines.push(Line::Cells(cells.iter().take(self.columns).map(cell).collect()));
    }

    /// Adds a line below the last row, indented to its second column.
    pub fn detail(&mut self, text: &str) {
        self.lines.push(Line::Detail(printable(text)));
    }

    /// The text, each line ended; no line ends in a space.
    #[must_use]
    pub fn render(&self) -> String {
        let mut widths = vec![0; self.columns];
        for line in &self.lines {
            if let Line::Cells(cells) = line {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.width());
                }
            }
        }
        let indent = widths.first().copied().unwrap_or(0) + GAP;
        let mut text = String::new();
        for line in &self.lines {
            let rendered = match line {
                Line::Cells(cells) => {
                    cells.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect::<Vec<_>>().join(&" ".repeat(GAP))
                }
                Line::Detail(detail) => format!("{}{detail}", " ".repeat(indent)),
            };
            text.push_str(rendered.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A cell as wide as its column: many scripts take two columns of a terminal for a character.
fn padded(cell: &str, width: usize) -> String {
    format!("{cell}{}", " ".repeat(width.saturating_sub(cell.width())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_follow_the_longest_cell_and_details_the_second_column() {
        let mut table = Table::new(&["KIND", "NAME", "STATE"]);
        table.row(&["application", "ä", ""]);
        table.detail("below");
        assert_eq!(table.render(), "KIND         NAME  STATE\napplication  ä     -\n             below\n");
        table.row(&["ip", "日本語", "Up"]);
        assert!(table.render().ends_with("ip           日本語  Up\n"), "{}", table.render());
    }
}
