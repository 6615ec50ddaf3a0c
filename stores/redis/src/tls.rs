//! Encrypted connections: rustls with aws-lc.

use redis::{Client, ConnectionInfo};
use semel_core::store::{StoreError, StoreErrorKind};

use crate::address::TlsFiles;
use crate::error::error;

/// What certificates are checked against, and shown.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// PEM. Without one: what the operating system trusts.
    pub(crate) authority: Option<Vec<u8>>,
    /// PEM: a certificate, with its chain, and its key.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Reads the files that a URL names. What the builder was given comes first.
    pub(crate) fn with_files(mut self, files: &TlsFiles) -> Result<Self, StoreError> {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|source| {
                let message = format!("{} cannot be read", path.display());
                error(StoreErrorKind::Config, message).with_source(source)
            })
        };
        if self.authority.is_none() {
            self.authority = files.authority.as_deref().map(read).transpose()?;
        }
        match (&files.certificate, &files.key) {
            _ if self.client.is_some() => {}
            (None, None) => {}
            (Some(certificate), Some(key)) => self.client = Some((read(certificate)?, read(key)?)),
            _ => {
                let message = "a client's certificate needs its key: give both tls_cert and tls_key";
                return Err(error(StoreErrorKind::Config, message));
            }
        }
        Ok(self)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn client(&self, info: ConnectionInfo) -> Result<Client, StoreError> {
        // A program with several providers has to choose one, and may have done so.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _somebody_was_first = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let client_tls = self
            .client
            .clone()
            .map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key });
        let certificates = redis::TlsCertificates { client_tls, root_cert: self.authority.clone() };
        Client::build_with_tls(info, certificates).map_err(|source| {
            let message =
                "a certificate or key is not in PEM, or damaged: look at tls_ca, tls_cert and tls_key";
            error(StoreErrorKind::Config, message).with_source(source)
        })
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "with the feature it is used")]
    pub(crate) fn client(&self, _: ConnectionInfo) -> Result<Client, StoreError> {
        Err(no_tls())
    }
}

/// Said before anything is tried.
#[cfg(not(feature = "tls"))]
pub(crate) fn no_tls() -> StoreError {
    error(
        StoreErrorKind::Config,
        "this build speaks no TLS: build it with the feature `tls`, or use redis:// over a private network or a tunnel",
    )
}
