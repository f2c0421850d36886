//! As much of nft's language as it takes to know what a table's text declares.

/// `KIND NAME { ... }` at the top level of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// `chain`, `set`, `map`, `counter`, ...
    pub kind: String,
    pub name: String,
    /// What stands between the braces, with single blanks and without comments: equal texts mean the same.
    pub text: String,
}

impl Declaration {
    /// Whether this is a set or map whose elements may end by themselves (`flags timeout`, or `timeout` of its own).
    pub fn lapses(&self) -> bool {
        let unquoted = self.text.split('"').step_by(2);
        unquoted.flat_map(|text| text.split([' ', ',', ';'])).any(|word| word == "timeout")
    }
}

pub fn declarations(body: &str) -> Vec<Declaration> {
    let mut found = Vec::new();
    let (mut depth, mut quoted, mut comment) = (0u32, false, false);
    let (mut head, mut text) = (String::new(), String::new());
    for c in body.chars() {
        let part = if depth == 0 { &mut head } else { &mut text };
        match c {
            '\n' if comment => {
                comment = false;
                part.push('\n');
            }
            _ if comment => {}
            '"' => {
                quoted = !quoted;
                part.push(c);
            }
            _ if quoted => part.push(c),
            '#' => comment = true,
            '{' => {
                depth += 1;
                if depth > 1 {
                    text.push(c);
                }
            }
            '}' => {
                depth = depth.saturating_sub(1);
                if depth > 0 {
                    text.push(c);
                    continue;
                }
                found.extend(declaration(&head, &text));
                head.clear();
                text.clear();
            }
            // A declaration may do without braces: `counter name`.
            '\n' | ';' if depth == 0 => {
                found.extend(declaration(&head, ""));
                head.clear();
            }
            _ => part.push(c),
        }
    }
    found.extend(declaration(&head, ""));
    found
}

fn declaration(head: &str, text: &str) -> Option<Declaration> {
    let words: Vec<_> = head.split_whitespace().collect();
    let [kind @ .., name] = words.as_slice() else { return None };
    if kind.is_empty() {
        return None;
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(Declaration { kind: kind.join(" "), name: (*name).to_owned(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_body_declares_is_found() {
        let body = r#"
            counter dropped_source
            map peers { type ipv4_addr : mark; } # who
            set allowed { type ipv4_addr; flags interval
                elements = { 10.0.0.0/8, 1.2.3.4 }
            }
            chain pre { type filter hook prerouting priority raw; policy accept; # { not a brace
                ip saddr { 1.1.1.1 } counter comment "a } brace" drop
            }
            ct helper h { type "ftp" protocol tcp; }
        "#;
        let found: Vec<_> = declarations(body).into_iter().map(|d| (d.kind, d.name)).collect();
        let expected = [("counter", "dropped_source"), ("map", "peers"), ("set", "allowed"), ("chain", "pre"), ("ct helper", "h")];
        assert_eq!(found, expected.map(|(kind, name)| (kind.to_owned(), name.to_owned())));
    }

    #[test]
    fn a_set_with_a_timeout_is_known_by_its_flags() {
        let lapses = |text: &str| declarations(text).iter().any(Declaration::lapses);
        assert!(lapses("set live { type ipv4_addr; flags timeout; }"));
        assert!(lapses("set live {\n type ipv4_addr\n flags dynamic, timeout\n elements = { 10.0.0.1 timeout 1s }\n}"));
        assert!(lapses("set live { type ipv4_addr; flags dynamic,timeout;}"));
        assert!(lapses("set a { type ipv4_addr; flags interval; timeout 5s; }"));
        assert!(!lapses("set a { type ipv4_addr; flags interval\n elements = { 10.0.0.0/8 } }\nset b { comment \"no timeout here\"; }"));
    }

    #[test]
    fn blanks_and_comments_make_no_difference() {
        let a = declarations("map peers { type ipv4_addr : mark; }");
        let b = declarations("map peers {\n  type   ipv4_addr : mark; # who\n}");
        assert_eq!(a, b);
        assert_ne!(a, declarations("map peers { type ipv4_addr : verdict; }"));
    }
}
