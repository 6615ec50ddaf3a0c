//! Follows the framing of the requests on a connection, byte for byte, and refuses what two parsers could read
//! in two ways (RFC 9112, 2.2, 5, 6 and 7.1).
//!
//! The HTTP parser behind it takes a bare LF for the end of a line and lets `Transfer-Encoding` win over
//! `Content-Length`, as the RFC allows. An application behind the gateway may see a second request there.

use memchr::{memchr, memchr_iter, memchr2};

/// The longest line that announces a chunk, its extensions included.
const CHUNK_LINE: usize = 1024;

/// Where in the framing of a connection the next byte belongs.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The beginning of a line whose end has not arrived.
    carry: Vec<u8>,
    head: Head,
    /// The longest line of a head.
    max_line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a request line; one empty line may precede it.
    Before {
        blank: bool,
    },
    Fields,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    /// A request that may turn the connection into a tunnel is complete, and its answer is awaited.
    Upgrading,
    Tunnel,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a field that was seen")]
#[derive(Debug, Default)]
struct Head {
    http11: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// The bytes from `at` on must not be parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) at: usize,
    /// The bytes before belong to a head that is not complete, which a parser has to be told to refuse.
    pub(super) in_head: bool,
}

impl Framing {
    pub(super) fn new(max_line: usize) -> Self {
        Self { state: State::Before { blank: false }, carry: Vec::new(), head: Head::default(), max_line }
    }

    /// A head has begun and is not complete.
    pub(super) fn in_head(&self) -> bool {
        match self.state {
            State::Fields => true,
            State::Before { .. } => !self.carry.is_empty(),
            _ => false,
        }
    }

    /// Nothing may be read until the answer to an upgrade begins.
    pub(super) fn awaits_answer(&self) -> bool {
        self.state == State::Upgrading
    }

    /// The answer to an upgrade begins with these bytes.
    pub(super) fn answered(&mut self, bytes: &[u8]) {
        if self.state == State::Upgrading {
            self.state = if bytes.starts_with(b"HTTP/1.1 101") {
                State::Tunnel
            } else {
                State::Before { blank: false }
            };
        }
    }

    /// Takes the next bytes of the connection.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match self.state {
                State::Body(left) => self.skip(left, rest.len(), State::Body),
                State::ChunkData(left) => self.skip(left, rest.len(), State::ChunkData),
                State::Tunnel => return Ok(()),
                State::Upgrading => return Err(self.refuse(at)),
                _ => match self.take_line(rest) {
                    Line::Good(length) => length,
                    Line::Partial => return Ok(()),
                    Line::Bad => return Err(self.refuse(at)),
                },
            };
        }
        Ok(())
    }

    fn refuse(&self, at: usize) -> Refused {
        let in_head = matches!(self.state, State::Before { .. } | State::Fields | State::Upgrading);
        Refused { at, in_head }
    }

    fn skip(&mut self, left: u64, here: usize, state: fn(u64) -> State) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(here);
        let left = left - taken as u64;
        if left > 0 {
            self.state = state(left);
        } else if matches!(self.state, State::ChunkData(_)) {
            self.state = State::ChunkEnd;
        } else {
            self.message_ended();
        }
        taken
    }

    fn message_ended(&mut self) {
        self.state = if self.head.upgrade { State::Upgrading } else { State::Before { blank: false } };
    }

    fn take_line(&mut self, rest: &[u8]) -> Line {
        let longest = match self.state {
            State::ChunkEnd => 1,
            State::ChunkSize => CHUNK_LINE,
            _ => self.max_line,
        };
        let end = memchr(b'\n', rest);
        let part = &rest[..end.unwrap_or(rest.len())];
        if self.carry.len() + part.len() > longest {
            return Line::Bad;
        }
        let Some(end) = end else {
            self.carry.extend_from_slice(part);
            return Line::Partial;
        };
        let good = if self.carry.is_empty() {
            self.line(part)
        } else {
            let mut line = std::mem::take(&mut self.carry);
            line.extend_from_slice(part);
            let good = self.line(&line);
            line.clear();
            self.carry = line;
            good
        };
        if good.is_some() { Line::Good(end + 1) } else { Line::Bad }
    }

    /// One line without its LF; `None` refuses it.
    fn line(&mut self, line: &[u8]) -> Option<()> {
        let line = line.strip_suffix(b"\r")?;
        if memchr2(b'\r', 0, line).is_some() {
            return None;
        }
        match self.state {
            State::Before { blank: false } if line.is_empty() => self.state = State::Before { blank: true },
            State::Before { .. } => {
                self.head = Head { http11: request_line(line)?, ..Head::default() };
                self.state = State::Fields;
            }
            State::Fields if line.is_empty() => self.head_ended()?,
            State::Fields => self.field(line)?,
            State::ChunkSize => {
                self.state = match chunk_size(line)? {
                    0 => State::Trailers,
                    size => State::ChunkData(size),
                }
            }
            State::ChunkEnd if line.is_empty() => self.state = State::ChunkSize,
            State::Trailers if line.is_empty() => self.message_ended(),
            State::Trailers => {
                let (name, _) = split_field(line)?;
                let forbidden: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
                if forbidden.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
                    return None;
                }
            }
            State::ChunkEnd | State::Body(_) | State::ChunkData(_) | State::Upgrading | State::Tunnel => {
                return None;
            }
        }
        Some(())
    }

    fn field(&mut self, line: &[u8]) -> Option<()> {
        let (name, value) = split_field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.head.host || !is_host(value) {
                    return None;
                }
                self.head.host = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.head.upgrade = self.head.http11,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.head.length.is_some() {
                    return None;
                }
                self.head.length = Some(content_length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.head.chunked || !self.head.http11 || !value.eq_ignore_ascii_case(b"chunked") {
                    return None;
                }
                self.head.chunked = true;
            }
            _ => {}
        }
        Some(())
    }

    fn head_ended(&mut self) -> Option<()> {
        if self.head.http11 && !self.head.host {
            return None;
        }
        match (self.head.chunked, self.head.length) {
            (true, Some(_)) => return None,
            (true, None) => self.state = State::ChunkSize,
            (false, None | Some(0)) => self.message_ended(),
            (false, Some(length)) => self.state = State::Body(length),
        }
        Some(())
    }
}

enum Line {
    Good(usize),
    Partial,
    Bad,
}

/// Whether it is HTTP/1.1 and not HTTP/1.0.
fn request_line(line: &[u8]) -> Option<bool> {
    let (start, version) = line.split_at_checked(line.len().checked_sub(9)?)?;
    let http11 = match version {
        b" HTTP/1.1" => true,
        b" HTTP/1.0" => false,
        _ => return None,
    };
    (memchr_iter(b' ', start).count() == 1).then_some(http11)
}

/// Name and trimmed value; neither a folded line nor a space before the colon.
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    if name.is_empty() || name.first().is_some_and(blank) || name.last().is_some_and(blank) {
        return None;
    }
    Some((name, value.trim_ascii()))
}

fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = &line[..memchr(b';', line).unwrap_or(line.len())];
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// One host with or without a port, or nothing (RFC 9112, 3.2).
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:[]%".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nhost:\ta:80 \r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 3\r\n\r\na\nbGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
         2\r\n\n\n\r\nA;x=y\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];

    /// Cut anywhere into two reads, the verdict is the same.
    #[test]
    fn good_requests_pass_however_they_are_cut() {
        for bytes in OK.iter().map(|text| text.as_bytes()) {
            for cut in 0..=bytes.len() {
                let mut framing = Framing::new(1024);
                assert_eq!(framing.feed(&bytes[..cut]), Ok(()));
                assert_eq!(framing.feed(&bytes[cut..]), Ok(()));
                assert_eq!(framing.state, State::Before { blank: false }, "{cut} {bytes:?}");
            }
        }
    }

    /// The bytes that end the head are withheld, so a parser never sees a complete one.
    #[test]
    fn a_refused_head_is_never_complete() {
        let bytes =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        for cut in 0..bytes.len() {
            let mut framing = Framing::new(1024);
            let first = framing.feed(&bytes[..cut]);
            let (at, in_head) = if let Err(Refused { at, in_head }) = first {
                (at, in_head)
            } else {
                let Refused { at, in_head } = framing.feed(&bytes[cut..]).unwrap_err();
                (cut + at, in_head)
            };
            assert!(in_head);
            let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            assert!(at < head, "{cut}");
        }
    }

    #[test]
    fn bytes_behind_an_upgrade_wait_for_its_answer() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
        let mut framing = Framing::new(1024);
        framing.feed(head).unwrap();
        assert!(framing.awaits_answer());
        framing.answered(b"HTTP/1.1 101 Switching Protocols\r\n");
        assert_eq!(framing.feed(b"\x81\n\0\r"), Ok(()));

        let mut framing = Framing::new(1024);
        framing.feed(head).unwrap();
        framing.answered(b"HTTP/1.1 200 OK\r\n");
        assert_eq!(framing.feed(b"\x81\n"), Err(Refused { at: 0, in_head: true }));

        let mut framing = Framing::new(1024);
        framing.feed(head).unwrap();
        assert!(framing.feed(b"GET").is_err());
    }
}
