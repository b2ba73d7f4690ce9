//! A PDF of plain text (ISO 32000-1), as invoices are downloaded: Courier, A4, as many pages as the lines need. It is all
//! ASCII, so that a position in the text is a position in the file.

/// How many lines a page has, of 14 points each.
const LINES: usize = 54;

/// A document of lines of at most 80 characters. Characters outside Windows' Western set become `?`.
pub(crate) fn document(lines: &[String]) -> String {
    let sheets: Vec<&[String]> = lines.chunks(LINES).collect();
    let kids: Vec<String> = (0..sheets.len()).map(|index| format!("{} 0 R", 4 + 2 * index)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Count {} /Kids [{}] >>", sheets.len(), kids.join(" ")),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    for (index, sheet) in sheets.iter().enumerate() {
        let content =
            format!("BT /F1 10 Tf 14 TL 57 785 Td {}ET", sheet.iter().map(|line| show(line)).collect::<String>());
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> \
             /Contents {} 0 R >>",
            5 + 2 * index
        ));
        objects.push(format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()));
    }
    let mut file = "%PDF-1.4\n".to_owned();
    let mut table = String::new();
    for (index, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let (start, count) = (file.len(), objects.len() + 1);
    file.push_str(&format!("xref\n0 {count}\n0000000000 65535 f \n{table}"));
    file.push_str(&format!("trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"));
    file
}

/// The operator that writes a line and goes to the next.
fn show(line: &str) -> String {
    let text: String = line
        .chars()
        .map(|c| match (c, u32::from(c)) {
            ('(' | ')' | '\\', _) => format!("\\{c}"),
            ('€', _) => "\\200".to_owned(),
            (_, 0x20..=0x7e) => c.to_string(),
            (_, code @ 0xa0..=0xff) => format!("\\{code:03o}"),
            _ => "?".to_owned(),
        })
        .collect();
    format!("({text}) Tj T* ")
}

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn positions_are_those_of_the_objects() {
        let lines: Vec<String> = (0..60).map(|line| format!("Line {line} (of 60) costs €5 and £4")).collect();
        let file = document(&lines);
        assert!(file.is_ascii());
        assert!(file.contains("(Line 7 \\(of 60\\) costs \\2005 and \\2434) Tj"));
        assert!(file.contains("/Count 2 "), "60 lines need two pages");
        let (_, start) = file.split_once("startxref\n").unwrap();
        let table = &file[start.lines().next().unwrap().parse::<usize>().unwrap()..];
        let rows: Vec<&str> = table.lines().skip(3).take_while(|row| row.ends_with("n ")).collect();
        assert_eq!(rows.len(), 7);
        for (index, row) in rows.iter().enumerate() {
            let position: usize = row[..10].parse().unwrap();
            assert!(file[position..].starts_with(&format!("{} 0 obj\n", index + 1)));
        }
    }
}
