//! Lists of tokens, and the scopes in them.

use dunnage_server::{Scopes, Tokens};

/// Reads a list of tokens, and a list of scopes.
///
/// Neither what is wrong with a list nor what is right says anything of the tokens in it. Scopes have one meaning.
pub fn tokens(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let said = match Tokens::parse(&text) {
        Ok(tokens) => format!("{tokens:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    let words = text.split(|character: char| character.is_whitespace() || character == ';');
    let leaked = words.filter(|word| word.len() >= 32).find(|word| said.contains(word));
    assert_eq!(leaked, None, "{said}");
    if let Ok(scopes) = text.parse::<Scopes>() {
        assert_eq!(scopes.to_string().parse(), Ok(scopes));
    }
}
