//! Columns that stay aligned however long the names are, with details below a row.

use unicode_width::UnicodeWidthStr;

use super::{
    output::printable,
    paint::{Ink, Palette},
};

/// Spaces between two columns.
const GAP: usize = 2;

/// A table: a header, rows of cells, and lines of detail indented below the row before them.
pub struct Table {
    columns: usize,
    lines: Vec<Line>,
}

enum Line {
    Cells(Vec<(String, Ink)>),
    Detail(String),
}

impl Table {
    /// A table with these column heads.
    #[must_use]
    pub fn new(heads: &[&str]) -> Self {
        let cells = heads.iter().map(|head| ((*head).to_owned(), Ink::Quiet)).collect();
        Self { columns: heads.len(), lines: vec![Line::Cells(cells)] }
    }

    /// Adds a row; surplus cells are dropped, an empty cell shows as `-`.
    pub fn row(&mut self, cells: &[&str]) {
        let cells: Vec<(&str, Ink)> = cells.iter().map(|text| (*text, Ink::Plain)).collect();
        self.inked(&cells);
    }

    /// The same in colours.
    pub fn inked(&mut self, cells: &[(&str, Ink)]) {
        let cell = |(text, ink): &(&str, Ink)| if text.is_empty() { ("-".to_owned(), *ink) } else { (printable(text), *ink) };
        self.lines.push(Line::Cells(cells.iter().take(self.columns).map(cell).collect()));
    }

    /// Adds a line below the last row, indented to its second column.
    pub fn detail(&mut self, text: &str) {
        self.lines.push(Line::Detail(printable(text)));
    }

    /// The text without colour, each line ended; no line ends in a space.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_in(Palette::PLAIN)
    }

    /// The same in colours where the palette has any.
    #[must_use]
    pub fn render_in(&self, palette: Palette) -> String {
        let mut widths = vec![0; self.columns];
        for line in &self.lines {
            if let Line::Cells(cells) = line {
                for (width, (cell, _)) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.width());
                }
            }
        }
        let indent = widths.first().copied().unwrap_or(0) + GAP;
        let mut text = String::new();
        for line in &self.lines {
            let rendered = match line {
                Line::Cells(cells) => {
                    // The last cell is not padded, so that a coloured one leaves no space behind it either.
                    let last = cells.len() - 1;
                    let width = |at: usize| if at == last { 0 } else { widths[at] };
                    let cell = |(at, (cell, ink)): (usize, &(String, Ink))| padded(cell, width(at), *ink, palette);
                    cells.iter().enumerate().map(cell).collect::<Vec<_>>().join(&" ".repeat(GAP))
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
fn padded(cell: &str, width: usize, ink: Ink, palette: Palette) -> String {
    format!("{}{}", palette.paint(ink, cell), " ".repeat(width.saturating_sub(cell.width())))
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

    #[test]
    fn colours_take_no_room() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.inked(&[("a", Ink::Plain), ("Up", Ink::Good)]);
        table.inked(&[("long", Ink::Bad), ("", Ink::Plain)]);
        let coloured = table.render_in(Palette::COLOURED);
        assert!(coloured.contains("a     \u{1b}[32mUp\u{1b}[0m\n") && coloured.contains("\u{1b}[1;31mlong\u{1b}[0m  -\n"), "{coloured:?}");
        assert_eq!(table.render(), "NAME  STATE\na     Up\nlong  -\n");
    }
}
