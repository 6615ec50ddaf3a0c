//! The pages that a problem's `type` leads to, under `docs/problems`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use http::HeaderMap;
use semel_core::key::Key;
use semel_core::problem::{Code, Docs, Problem};
use serde_json::Value;

fn pages() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/problems"))
}

fn page(code: Code) -> String {
    std::fs::read_to_string(pages().join(format!("{code}.md"))).unwrap()
}

/// A `type` that leads nowhere leaves a client alone with its error; a page without a code is never found.
#[test]
fn every_code_has_its_page_and_every_page_its_code() {
    let files: BTreeSet<String> = std::fs::read_dir(pages())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(files, codes);
}

#[test]
fn a_page_says_what_the_code_says() {
    for code in Code::ALL {
        let page = page(code);
        assert!(page.starts_with(&format!("# {code}: {}\n", code.title())), "{code}");
        let row = format!(
            "| {} | `{}` | `{}` |",
            code.status().as_u16(),
            code.retry(),
            code.retry().is_retryable()
        );
        assert!(page.contains(&row), "{code}: no row {row}");
        for section in ["What happened", "What to do", "What causes it", "Example"] {
            assert!(page.contains(&format!("\n## {section}\n")), "{code}: no section {section}");
        }
        assert!(page.contains("\n*For operators.* "), "{code}: nothing for whoever runs the service");
        let status = format!("```http\nHTTP/1.1 {} ", code.status().as_u16());
        assert!(page.contains(&status), "{code}: no answer that begins with its status");
    }
}

/// An example that differs from the answer teaches clients the wrong members.
#[test]
fn the_example_on_a_page_is_the_answer_that_is_sent() {
    for code in Code::ALL {
        let page = page(code);
        let (_, rest) = page.split_once("```json\n").unwrap();
        let example: Value = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
        let mut problem = Problem::new(code);
        if let Some(key) = example["idempotency_key"].as_str() {
            problem = problem.with_key(Key::from_text(key).unwrap());
        }
        let answer = problem.render(&HeaderMap::new(), &Docs::default());
        let sent: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(example, sent, "{code}");
    }
}
