//! Plain columns for people: they must read well in a serial log too, so there are no borders and no colours.

/// The rows under the headings, each column as wide as its widest text, two spaces apart. A row's text holds no line's end.
pub fn text(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let headings = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let rows: Vec<Vec<String>> = core::iter::once(headings).chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_wide_as_its_widest_text_and_lines_have_no_blanks_at_their_ends() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let table = text(&["NAME", "STATE", "PID"], [row(&["debian", "ready", "7"]), row(&["böse", "", ""])]);
        assert_eq!(table, "NAME    STATE  PID\ndebian  ready  7\nböse\n");
        assert_eq!(text(&["NAME"], []), "NAME\n");
    }
}
