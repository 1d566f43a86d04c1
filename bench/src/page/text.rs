//! Text in HTML.

use std::fmt;

/// What shows as `text` between tags and in quoted attributes.
pub fn escaped(text: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        text.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // A report may be anybody's file: HTML has no other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => f.write_str("\u{fffd}"),
            c => write!(f, "{c}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn nothing_in_a_text_is_a_tag_an_attribute_or_a_reference() {
        let told = escaped("<a href='x' b=\"y\">&amp;</a>\0").to_string();
        assert_eq!(told, "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp;amp;&lt;/a&gt;\u{fffd}");
    }
}
