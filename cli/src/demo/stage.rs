//! What the scenes share: requests and answers as lines of the transcript, and what was not as it must be.

use std::net::SocketAddr;

use http::Method;

use super::client::{self, Answer, Ask, NoAnswer};
use crate::exit::Fault;
use crate::out;

/// Writes lines of the transcript.
pub(super) fn note(text: &str) -> Result<(), Fault> {
    let lines: Vec<String> = text.lines().map(|line| format!("   {line}\n")).collect();
    out::print(lines.concat())
}

/// The transcript so far.
#[derive(Debug)]
pub(super) struct Stage {
    /// Where Semel listens.
    pub(super) front: SocketAddr,
    scenes: usize,
    sent: usize,
    wrong: usize,
}

impl Stage {
    pub(super) fn new(front: SocketAddr) -> Self {
        Self { front, scenes: 0, sent: 0, wrong: 0 }
    }

    /// How many orders were asked for, retries included.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// How often something was not as it must be.
    pub(super) fn wrong(&self) -> usize {
        self.wrong
    }

    pub(super) fn scene(&mut self, title: &str) -> Result<(), Fault> {
        self.scenes += 1;
        out::print(format!("\n{}. {title}\n", self.scenes))
    }

    /// Says what must be, and whether it is.
    pub(super) fn check(&mut self, holds: bool, what: &str) -> Result<(), Fault> {
        self.wrong += usize::from(!holds);
        out::print(format!("   {} {what}\n", if holds { "ok   " } else { "WRONG" }))
    }

    /// Writes down a request for an order; whoever sends it calls [`client::send`].
    pub(super) fn order(&mut self, key: &str, body: &str, wait: Option<u32>) -> Result<Ask, Fault> {
        self.sent += 1;
        let mut fields = vec![("idempotency-key", format!("\"{key}\""))];
        let mut shown = format!("-> POST /orders  Idempotency-Key: \"{key}\"  {body}");
        if let Some(seconds) = wait {
            fields.push(("prefer", format!("wait={seconds}")));
            shown = format!("{shown}  Prefer: wait={seconds}");
        }
        note(&shown)?;
        Ok(Ask { method: Method::POST, path: "/orders".to_owned(), fields, body: body.to_owned() })
    }

    /// Sends a request for an order and writes down what comes.
    pub(super) async fn ask(&mut self, key: &str, body: &str, wait: Option<u32>) -> Result<Answer, Fault> {
        let ask = self.order(key, body, wait)?;
        let outcome = client::send(self.front, ask).await;
        self.heard(outcome)
    }

    /// Writes down an answer. Where there is none, an empty one stands for it and fails every check.
    pub(super) fn heard(&mut self, outcome: Result<Answer, NoAnswer>) -> Result<Answer, Fault> {
        match outcome {
            Ok(answer) => {
                note(&format!("<- {}", line(&answer)))?;
                Ok(answer)
            }
            Err(error) => {
                self.check(false, &format!("an answer comes ({error})"))?;
                Ok(Answer {
                    status: http::StatusCode::IM_A_TEAPOT,
                    headers: http::HeaderMap::new(),
                    body: String::new(),
                })
            }
        }
    }
}

fn line(answer: &Answer) -> String {
    let mut text = answer.status.to_string();
    for name in ["idempotency-replayed", "retry-after"] {
        if let Some(value) = answer.field(name) {
            text = format!("{text}  {name}: {value}");
        }
    }
    match (answer.member("code"), answer.member("retry")) {
        (Some(code), Some(retry)) => format!("{text}  code: {code}  retry: {retry}"),
        _ => format!("{text}  {}", answer.body),
    }
}
