//! What shows that thinking which a client sends back was this server's own.

use std::fmt;

use blake3::Hash;
use uuid::Uuid;

/// What signatures begin with, so that those of a later form can be told from these.
const FORM: &str = "sv1.";

/// The key that a server signs thinking with. It says nothing of what is signed, and nobody is told it.
#[derive(Clone, Copy)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// A key of these bytes, which nobody else has.
    pub fn new(bytes: [u8; 32]) -> SigningKey {
        SigningKey(bytes)
    }

    /// A key that nobody has had before: 244 bits of it are random.
    pub fn random() -> SigningKey {
        let bytes = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
        SigningKey(*blake3::hash(&bytes).as_bytes())
    }

    /// Its bytes, for who keeps it.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The signature of a thinking block of this text.
    pub(crate) fn sign(&self, thinking: &str) -> String {
        format!("{FORM}{}", blake3::keyed_hash(&self.0, thinking.as_bytes()).to_hex())
    }

    /// Whether `signature` is that of `thinking`. The digests are compared in constant time.
    pub(crate) fn verifies(&self, thinking: &str, signature: &str) -> bool {
        let claimed = signature.strip_prefix(FORM).and_then(|digits| Hash::from_hex(digits).ok());
        claimed.is_some_and(|claimed| claimed == blake3::keyed_hash(&self.0, thinking.as_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_verifies_with_its_own_text_and_key_only() {
        let key = SigningKey::new([7; 32]);
        let signature = key.sign("two and two");
        assert!(key.verifies("two and two", &signature));
        assert!(!key.verifies("two and three", &signature));
        assert!(!SigningKey::new([8; 32]).verifies("two and two", &signature));
        for foreign in
            ["", "sv1.", "sv1.00", "EqQBCkYIARgCKkDtnLm", &signature[4..], &format!("{signature}0")]
        {
            assert!(!key.verifies("two and two", foreign), "{foreign}");
        }
    }
}
