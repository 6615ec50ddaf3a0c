//! Rust as far as these rules need it: what is code, and what is a comment, a string, or a test.

/// The same text with comments and the contents of strings and characters blanked, line by line as before.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => find(&chars, at, |c| c == '\n'),
            ('/', Some('*')) => block_comment(&chars, at),
            ('"', _) => string(&chars, at),
            ('r', Some('"' | '#')) if !is_word(&chars, at) => match raw_string(&chars, at) {
                Some(end) => end,
                None => at,
            },
            ('\'', _) => character(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        // The quotes stay, so that a call with a string is still told from one without.
        for (offset, &char) in chars[at..end].iter().enumerate() {
            let edge = char == '"' && (offset == 0 || at + offset + 1 == end);
            out.push(if char == '\n' || edge { char } else { ' ' });
        }
        at = end;
    }
    out
}

/// The same text without items under `#[cfg(test)]`. Takes blanked text.
pub(crate) fn without_tests(text: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(MARK) {
        let (before, item) = rest.split_at(start);
        out.push_str(before);
        let end = item_end(item);
        out.extend(item[..end].chars().filter(|&char| char == '\n'));
        rest = &item[end..];
    }
    out + rest
}

/// After the item's closing brace, or its semicolon if that comes first.
fn item_end(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, char) in item.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// Whether the word `word` is in the line, not as a part of a longer one.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

fn find(chars: &[char], from: usize, is: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|&char| is(char)).map_or(chars.len(), |found| from + found)
}

/// Whether the character before belongs to the same word: `for"` is no raw string.
fn is_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], from: usize) -> Option<usize> {
    let open = find(chars, from + 1, |char| char != '#');
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let hashes = open - from - 1;
    let close = (open + 1..chars.len()).find(|&at| {
        chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    });
    Some(close.map_or(chars.len(), |close| close + 1 + hashes))
}

/// A lifetime is left as it is.
fn character(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => find(chars, from + 3, |char| char == '\'').saturating_add(1).min(chars.len()),
        (Some(_), Some('\'')) => from + 3,
        _ => from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A rule that trips over a comment is switched off by the next person who writes one.
    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "a // todo!()\n/* b /* c */ d */ e \"f \\\" g\" r#\"h \" i\"# 'j' '\\'' '\"' &'k l";
        let code = blank(text);
        for gone in ["todo", "b", "c", "d", "f", "g", "h", "i", "j"] {
            assert!(!has_word(&code, gone), "{gone} in {code}");
        }
        for kept in ["a", "e", "k", "l"] {
            assert!(has_word(&code, kept), "{kept} not in {code}");
        }
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn test_modules_are_left_out_and_what_follows_is_not() {
        let text = "one\n#[cfg(test)]\nmod tests {\n fn two() {}\n}\nthree\n#[cfg(test)]\nmod four;\nfive";
        let code = without_tests(text);
        assert!(has_word(&code, "one") && has_word(&code, "three") && has_word(&code, "five"));
        assert!(!has_word(&code, "two") && !has_word(&code, "four"));
        assert_eq!(code.lines().nth(5), Some("three"));
    }
}
