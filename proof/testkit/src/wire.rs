//! HTTP/1.1 messages as bytes, read without any HTTP library: what a test sees is what was on the wire.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// One request or response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or status line, without its line end.
    pub start: String,
    /// The fields in their order, names as they were sent.
    pub fields: Vec<(String, String)>,
    /// The body, a chunked one without its framing.
    pub body: Vec<u8>,
    /// The fields behind a chunked body.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// All values of a field, in their order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The only value of a field, `None` if there is none or more than one.
    pub fn one(&self, name: &str) -> Option<&str> {
        match self.all(name)[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The status of a response, 0 for a request.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads the head of a message; `None` if the stream ends before its first byte.
pub async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Message>> {
    let start = loop {
        match read_line(stream).await? {
            None => return Ok(None),
            Some(line) if line.is_empty() => {}
            Some(line) => break line,
        }
    };
    Ok(Some(Message { start, fields: read_fields(stream).await?, ..Message::default() }))
}

/// Reads a whole message; `None` if the stream ends before its first byte. `bodyless` is for answers to HEAD.
pub async fn read_message(
    stream: &mut (impl AsyncBufRead + Unpin),
    bodyless: bool,
) -> io::Result<Option<Message>> {
    let Some(mut message) = read_head(stream).await? else { return Ok(None) };
    let response = message.start.starts_with("HTTP/");
    let status = message.status();
    if bodyless || (response && (status < 200 || status == 204 || status == 304)) {
        return Ok(Some(message));
    }
    if message.one("transfer-encoding").is_some() {
        (message.body, message.trailers) = read_chunked(stream).await?;
    } else if let Some(length) = message.one("content-length") {
        let length = length.parse().map_err(|_| malformed("content-length"))?;
        message.body = vec![0; length];
        stream.read_exact(&mut message.body).await?;
    } else if response {
        stream.read_to_end(&mut message.body).await?;
    }
    Ok(Some(message))
}

async fn read_chunked(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<(Vec<u8>, Vec<(String, String)>)> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let digits = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(digits, 16).map_err(|_| malformed("chunk size"))?;
        if size == 0 {
            return Ok((body, read_fields(stream).await?));
        }
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).await?;
        if read_line(stream).await?.is_none_or(|end| !end.is_empty()) {
            return Err(malformed("chunk end"));
        }
    }
}

async fn read_fields(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("field"))?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {what}"))
}
