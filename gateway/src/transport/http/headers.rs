//! Header values as lists of tokens (RFC 9110 section 5.6.1).

/// The elements of a comma-separated list that may be spread over several header lines; empty ones are left out.
pub fn elements<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    lines.flat_map(|line| line.split(',')).map(|element| element.trim_matches([' ', '\t'])).filter(|e| !e.is_empty())
}

/// Whether a list holds `token`, in any letter case.
pub fn contains<'a>(lines: impl Iterator<Item = &'a str>, token: &str) -> bool {
    elements(lines).any(|element| element.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_any_line_case_and_place_but_never_within_another() {
        for lines in [&["Upgrade"][..], &["keep-alive, UPGRADE"], &["keep-alive", "upgrade"], &[" ,\tupgrade ,"]] {
            assert!(contains(lines.iter().copied(), "upgrade"), "{lines:?}");
        }
        for lines in [&["Upgrade-Insecure"][..], &["keep-alive"], &[], &["up grade"]] {
            assert!(!contains(lines.iter().copied(), "upgrade"), "{lines:?}");
        }
    }
}
