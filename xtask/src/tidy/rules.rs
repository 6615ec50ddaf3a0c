//! Rules over Rust code. All see code alone: neither comments nor strings.

use super::code::has_word;
use super::{Finding, Tree};

/// Invariant 1: `core` performs no I/O, reads no clock, spawns nothing, has no `async`.
pub(crate) fn core_is_sans_io(tree: &Tree, findings: &mut Vec<Finding>) {
    const WORDS: &[&str] = &["async", "await", "tokio", "SystemTime", "Instant", "thread"];
    const PATHS: &[&str] = &["std::net", "std::fs", "std::io", "std::env", "std::process", "std::os"];
    for (path, text) in tree.shipped().filter(|(path, _)| path.starts_with("core/src/")) {
        for (line, code) in numbered(&text) {
            let word = WORDS.iter().find(|word| has_word(code, word));
            if let Some(what) = word.or_else(|| PATHS.iter().find(|path| code.contains(**path))) {
                add(findings, path, line, format!("`{what}` in core, which is sans-IO"));
            }
        }
    }
}

/// Invariant 2: hosts and the gateway contain no `match` on a status or a state. Where a line only looks like one,
/// it or the one above says `// tidy: allow(decides) why`.
pub(crate) fn only_core_decides(tree: &Tree, findings: &mut Vec<Finding>) {
    const STATES: &[&str] = &["State::InFlight", "State::Completed", "State::Released", "State::Unknown"];
    const ASKS: &[&str] = &["is_success()", "is_client_error()", "is_server_error()", "is_redirection()"];
    let outside = |path: &str| path.starts_with("hosts/") || path.starts_with("gateway/");
    for (path, text) in tree.shipped().filter(|(path, _)| outside(path)) {
        let source = tree.get(path).unwrap_or_default();
        for (line, code) in numbered(&text) {
            let arm = code.split_once("=>").map_or("", |(pattern, _)| pattern);
            let asked = code.split_once("match ").map_or("", |(_, asked)| asked);
            let decides = has_word(asked, "status")
                || arm.contains("StatusCode::")
                || STATES.iter().any(|state| arm.contains(state))
                || ASKS.iter().any(|ask| code.contains(ask));
            if decides && !allowed(source, line, "decides") {
                add(findings, path, line, "decides by a status or a state: that belongs to core");
            }
        }
    }
}

/// Nothing is left for later.
pub(crate) fn nothing_unfinished(tree: &Tree, findings: &mut Vec<Finding>) {
    const MACROS: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];
    for (path, text) in tree.rust() {
        for (line, code) in numbered(&text) {
            if let Some(what) = MACROS.iter().find(|what| code.contains(**what)) {
                add(findings, path, line, format!("`{what}` is unfinished work"));
            }
        }
    }
}

/// Clippy looks for the calls; this rule looks for those who silence clippy in a whole file, and for calls where
/// no reason stands.
pub(crate) fn no_unwrap_outside_tests(tree: &Tree, findings: &mut Vec<Finding>) {
    const CALLS: &[&str] = &[".unwrap()", ".expect(\""];
    const REACH: usize = 15;
    for (path, text) in tree.shipped() {
        let lines: Vec<&str> = text.lines().collect();
        for (index, code) in lines.iter().enumerate() {
            let reason = || {
                lines[index.saturating_sub(REACH)..index]
                    .iter()
                    .any(|above| above.contains("clippy::expect_used"))
            };
            if CALLS.iter().any(|call| code.contains(call)) && !reason() {
                add(findings, path, index + 1, "may panic: restructure, or `#[expect]` it with a reason");
            }
            if code.contains("clippy::unwrap_used") {
                add(findings, path, index + 1, "silences clippy about `unwrap` outside tests");
            }
        }
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether the line, or the one above it, allows what the rule forbids, and says why.
fn allowed(source: &str, line: usize, rule: &str) -> bool {
    let mark = format!("// tidy: allow({rule}) ");
    source.lines().skip(line.saturating_sub(2)).take(2.min(line)).any(|line| line.contains(&mark))
}

fn add(findings: &mut Vec<Finding>, path: &str, line: usize, what: impl Into<String>) {
    findings.push(Finding { path: path.to_owned(), line, what: what.into() });
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    #[test]
    fn io_and_clocks_in_core_are_found_and_elsewhere_are_not() {
        for bad in [
            "use tokio::sync::Mutex;",
            "async fn f() {}",
            "let now = std::time::Instant::now();",
            "std::time::SystemTime::now()",
            "std::fs::read(p)",
            "std::net::TcpStream::connect(a)",
            "std::thread::spawn(f)",
        ] {
            assert_eq!(found(core_is_sans_io, &[("core/src/a.rs", bad)]), ["core/src/a.rs:1"], "{bad}");
            assert!(found(core_is_sans_io, &[("driver/src/a.rs", bad)]).is_empty(), "{bad}");
        }
        let fine = "//! no async here\nuse std::time::Duration;\n#[cfg(test)]\nmod tests { use std::fs; }";
        assert!(found(core_is_sans_io, &[("core/src/a.rs", fine)]).is_empty());
    }

    #[test]
    fn a_decision_outside_core_is_found() {
        for bad in [
            "match response.status() {",
            "StatusCode::OK => 1,",
            "Some(State::Unknown) => 2,",
            "if response.status().is_server_error() {",
        ] {
            for path in ["hosts/tower/src/a.rs", "gateway/src/a.rs"] {
                assert_eq!(found(only_core_decides, &[(path, bad)]), [format!("{path}:1")], "{bad}");
            }
            assert!(found(only_core_decides, &[("core/src/a.rs", bad)]).is_empty());
        }
        for fine in [
            "*response.status_mut() = StatusCode::OK;",
            "None => StatusCode::BAD_GATEWAY,",
            "let status = match error.kind() {",
            "match self.state {",
            "// tidy: allow(decides) an upgrade is no answer\nmatch response.status() {",
        ] {
            assert!(found(only_core_decides, &[("gateway/src/a.rs", fine)]).is_empty(), "{fine}");
        }
    }

    // An allowance without a reason is none.
    #[test]
    fn an_allowance_needs_its_reason_and_its_place() {
        for bare in
            ["// tidy: allow(decides)\nmatch status {", "// tidy: allow(decides) why\n\nmatch status {"]
        {
            assert_eq!(found(only_core_decides, &[("gateway/src/a.rs", bare)]).len(), 1, "{bare}");
        }
    }

    #[test]
    fn unfinished_work_is_found_in_tests_too() {
        for bad in ["todo!()", "unimplemented!(\"x\")", "dbg!(x)", "#[ignore]", "#[ignore = \"slow\"]"] {
            assert_eq!(found(nothing_unfinished, &[("cli/tests/it/a.rs", bad)]).len(), 1, "{bad}");
        }
        assert!(found(nothing_unfinished, &[("a.rs", "// todo!()\nlet a = \"dbg!\";")]).is_empty());
    }

    #[test]
    fn an_unwrap_that_ships_is_found() {
        for bad in ["x.unwrap();", "x.expect(\"a reason\");", "#![allow(clippy::unwrap_used)]"] {
            assert_eq!(found(no_unwrap_outside_tests, &[("cli/src/a.rs", bad)]).len(), 1, "{bad}");
            assert!(found(no_unwrap_outside_tests, &[("cli/tests/it/a.rs", bad)]).is_empty());
        }
        let fine =
            "#[expect(clippy::expect_used, reason = \"why\")]\nfn f() { x.expect(\"y\"); }\nx.unwrap_or(1)";
        assert!(found(no_unwrap_outside_tests, &[("cli/src/a.rs", fine)]).is_empty());
    }
}
