//! Numbers for people.

/// Three digits or all before the point, thousands apart: `1,234`, `56.7`, `0.012`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if value == value.trunc() || size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{size:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut apart = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    let is_nothing = text.chars().all(|c| matches!(c, '0' | '.'));
    format!("{}{apart}{rest}", if value < 0.0 && !is_nothing { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn three_digits_or_all_before_the_point() {
        let told = [0.0, 7.0, 0.0123, 1.239, 45.67, 999.6, 1_234.5, 1_000_000.0, -12.0, -0.0001].map(number);
        assert_eq!(told, ["0", "7", "0.012", "1.24", "45.7", "1,000", "1,234", "1,000,000", "-12", "0.000"]);
    }
}
