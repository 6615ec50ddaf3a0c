//! Names a record from outside a request: for reconcilers and operators that know the key.

use http::Method;
use semel_core::identity::Secret;
use semel_core::record::RecordId;

/// Where a record is: its key, and the principal and endpoint where these are part of the identity.
///
/// ```
/// use semel_driver::Address;
/// let public = Address::key("8e03978e-40d5-43e8-bc93-6894a57f9324");
/// let tenants = Address::key("order-1").principal("tenant-7");
/// ```
#[derive(Clone)]
#[must_use]
pub struct Address {
    key: String,
    principal: Option<Vec<u8>>,
    endpoint: Option<(Method, String)>,
}

impl Address {
    /// A key, decoded: without the quotes of its field.
    pub fn key(key: impl Into<String>) -> Self {
        Self { key: key.into(), principal: None, endpoint: None }
    }

    /// The stable principal, as the route's scope reads it. Credentials are not part of an identity.
    pub fn principal(mut self, principal: impl Into<Vec<u8>>) -> Self {
        self.principal = Some(principal.into());
        self
    }

    /// Method and path, where the route uses endpoint scope.
    pub fn endpoint(mut self, method: Method, path: impl Into<String>) -> Self {
        self.endpoint = Some((method, path.into()));
        self
    }

    /// The record's name in a store with this secret.
    pub fn record_id(&self, secret: &Secret, namespace: &str) -> RecordId {
        let endpoint = self.endpoint.as_ref().map(|(method, path)| (method, path.as_str()));
        secret.record_id(namespace, self.principal.as_deref(), endpoint, &self.key)
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(..)")
    }
}
