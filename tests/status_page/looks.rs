//! What the page makes of a status: on small screens, in the dark, of names that are not meant well, and when nobody answers.

use super::browser::{Look, PHONE, Page, WIDE};
use super::statuses::{ROLES, of};
use super::support::{Fake, here};
use portway::lab;
use serde_json::{Value, json};
use std::time::Duration;

const SHOWN: &str = "!document.getElementById('tables').hidden";

fn open(role: &'static str, name: &'static str, look: Look) -> (Fake, Page) {
    let fake = Fake::start(move |at| of(role, at, name));
    let mut page = Page::open(here(), &format!("{}/", fake.origin()), look);
    page.until("shown", SHOWN);
    (fake, page)
}

#[test]
fn every_role_is_shown_and_nobody_else_is_asked() {
    let (fake, mut page) = open("gateway", "gw-1", WIDE);
    for role in ROLES {
        fake.say(move |at| (200, of(role, at, "gw-1")));
        page.reload();
        page.until(role, SHOWN);
        page.until("a second answer", "document.getElementById('age').innerText === 'live'");
    }
    fake.say(|at| (200, of("fleet", at, "gw-1")));
    page.reload();
    page.until("the fleet", SHOWN);
    let (shards, tenants) = (page.rows("shards"), page.rows("tenants"));
    assert_eq!([0, 1, 2, 4, 5].map(|column| shards[0][column].as_str()), ["acme/0", "gw-1", "active", "gw-2", "812"], "{shards:?}");
    assert_eq!([1, 2].map(|column| shards[1][column].as_str()), ["nobody heard", "no owner"], "{shards:?}");
    assert_eq!(shards[0][6..8], ["311", "4,096"], "{shards:?}");
    assert_eq!(shards[1][6..8], ["–", "–"], "{shards:?}");
    assert_eq!((&tenants[0][3..5], tenants[0][6].as_str()), (&["4,096".to_owned(), "812".into()][..], "crawlers, partners"), "{tenants:?}");
    assert!(page.text("#warning-list").contains("gateway gw-3 has said nothing yet"), "{}", page.text("#warning-list"));
    fake.say(|at| (200, of("gateway", at, "gw-1")));
    page.reload();
    page.until("rates", "document.querySelector('#charts .line')?.getAttribute('d')?.includes('L')");
    let rows = page.rows("shards");
    assert_eq!((rows[0][0].as_str(), rows[0][1].as_str(), rows[0][2].as_str()), ("acme/0", "active", "gw-1"), "{rows:?}");
    assert_eq!((rows[1][1].as_str(), rows[1][2].as_str()), ("backup", "gw-2"), "{rows:?}");
    let takeovers = page.rows("takeovers");
    assert_eq!((takeovers[0][3].as_str(), takeovers[1][3].as_str()), ("≤ 318 ms", "none: planned"), "{takeovers:?}");
    let claims = page.rows("cloud");
    assert_eq!(claims[0][..3], ["acme/0", "all of it", "61 ms"], "{claims:?}");
    assert_eq!(claims[1][..5], ["gw-1", "not all yet", "–", "2", "7"], "{claims:?}");
    let warnings = page.text("#warning-list");
    for told in ["takes this machine away: nobody took over some of its shards (1)", "gw-1: not all of its addresses lead here"] {
        assert!(warnings.contains(told), "{warnings}");
    }
    // 110,000 packets a second of 1,100 bytes.
    let traffic: String = page.text("#charts .chart:first-child .legend");
    assert!(traffic.contains("from hosts") && traffic.contains("Mbit/s") && traffic.contains("to hosts"), "{traffic}");
    page.is_content(&fake.origin());
}

/// Every text that somebody else chooses, in every role.
#[test]
fn a_name_is_never_markup() {
    const EVIL: &str = r#"</td><img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"#;
    let (fake, mut page) = open("gateway", EVIL, WIDE);
    for role in ROLES {
        fake.say(move |at| (200, of(role, at, EVIL)));
        page.reload();
        page.until(role, SHOWN);
        let found = page.value("[document.querySelectorAll('img').length, document.querySelectorAll('script').length, document.title.includes('owned') && !document.title.includes('onerror')]");
        assert_eq!(found, json!([1, 1, false]), "{role}");
        assert!(role == "directory" || page.text("main").contains("<img src=x onerror="), "{role}: the name itself is to be read");
    }
    page.is_content(&fake.origin());
}

#[test]
fn on_a_phone_nothing_has_to_be_moved_sideways() {
    let (fake, mut page) = open("gateway", "gw-1", PHONE);
    for (role, name) in ROLES.into_iter().flat_map(|role| [(role, "gw-1"), (role, LONG)]) {
        fake.say(move |at| (200, of(role, at, name)));
        page.reload();
        page.until(role, SHOWN);
        let width = page.value("document.documentElement.scrollWidth");
        assert!(width.as_u64().is_some_and(|width| width <= u64::from(PHONE.width)), "{role}: {width}, {}", page.value(WIDEST));
        page.until("whole tables", "[...document.querySelectorAll('.card')].every((card) => card.scrollWidth <= card.clientWidth)");
        if name != LONG {
            page.screenshot(&format!("phone-{role}"));
        }
    }
    page.is_content(&fake.origin());
}

const LONG: &str = "gateway-of-a-very-long-name-1234567890.eu-central-1.compute.internal.example";
const WIDEST: &str = "[...document.querySelectorAll('*')].filter((one) => one.getBoundingClientRect().right > innerWidth).slice(-3).map((one) => one.outerHTML.slice(0, 200)).join('  ')";

#[test]
fn light_and_dark_differ_and_all_text_can_be_read_in_both() {
    let (fake, mut page) = open("gateway", "gw-1", WIDE);
    let mut grounds = Vec::new();
    for dark in [false, true] {
        page.look(Look { dark, still: true, ..WIDE });
        for role in ROLES {
            fake.say(move |at| (200, of(role, at, "gw-1")));
            page.reload();
            page.until(role, SHOWN);
            page.screenshot(&format!("{}-{role}", if dark { "dark" } else { "light" }));
            let faint = page.value(FAINT);
            assert_eq!(faint, json!([]), "{role}, dark: {dark}");
        }
        grounds.push(page.value("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(grounds[0], grounds[1]);
    assert_eq!(page.value("getComputedStyle(document.querySelector('main > section')).transitionDuration"), "0s");
    page.is_content(&fake.origin());
}

/// Texts with less contrast than 4.5:1 (WCAG 2.2, 1.4.3; relative luminance as it defines it). Colours are drawn, as the browser would.
const FAINT: &str = r"(() => {
  const pen = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const drawn = (colours) => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  };
  const luminance = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  const faint = [];
  for (const one of document.querySelectorAll('body *')) {
    const text = [...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join('');
    if (!text || !one.getClientRects().length) continue;
    const grounds = [];
    for (let at = one; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const [below, above] = [luminance(drawn(grounds)), luminance(drawn([...grounds, getComputedStyle(one).color]))];
    const contrast = (Math.max(below, above) + 0.05) / (Math.min(below, above) + 0.05);
    if (contrast < 4.5) faint.push(`${text}: ${contrast.toFixed(2)}`);
  }
  return faint;
})()";

#[test]
fn it_is_a_document_that_can_be_heard() {
    let (fake, mut page) = open("gateway", "gw-1", PHONE);
    let found = page.value(
        "[document.documentElement.lang, document.querySelectorAll('h1').length, document.getElementById('warning-list').ariaLive, document.getElementById('standing').getAttribute('role'), \
         [...document.querySelectorAll('section')].every((one) => document.getElementById(one.getAttribute('aria-labelledby'))), \
         [...document.querySelectorAll('th')].every((one) => one.scope === 'col'), [...document.querySelectorAll('.plot svg')].every((one) => one.ariaLabel && one.getAttribute('role') === 'img')]",
    );
    assert_eq!(found, json!(["en", 1, "polite", "status", true, true, true]));
    // Laid out as blocks, a table is one still.
    let roles = page.value(
        "['table', 'rowgroup', 'row', 'cell', 'columnheader'].map((role) => document.querySelectorAll(`#shards [role=${role}]`).length)",
    );
    assert_eq!(roles, json!([1, 2, 3, 16, 8]));
    // What is the same with the next answer is not said, nor touched: a selection stays.
    page.value("window.row = document.querySelector('#shards tbody tr'); window.warning = document.querySelector('#warning-list li'); window.seen = 0; new MutationObserver((all) => window.seen += all.length).observe(document.getElementById('warning-list'), { childList: true, subtree: true, characterData: true })");
    let before = page.requests.len();
    while page.requests.len() < before + 3 {
        page.value("1");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(page.value("window.row.isConnected && window.warning.isConnected && window.seen === 0"), true);
    page.is_content(&fake.origin());
}

#[test]
fn who_does_not_answer_is_said_to_be_silent_and_comes_back() {
    let (fake, mut page) = open("host", "host-1", WIDE);
    fake.say(|_| (500, json!({ "error": "out of order" })));
    page.until(
        "silent",
        "document.getElementById('standing').innerText === 'Silent' && document.getElementById('main').classList.contains('stale')",
    );
    assert!(page.text("#tunnels").contains("acme/0"), "what was said last is still shown");
    assert!(page.text("#age").ends_with(" old"), "{}", page.text("#age"));
    fake.say(|at| (200, of("host", at, "host-1")));
    page.until(
        "back",
        "document.getElementById('standing').innerText === 'Ready' && !document.getElementById('main').classList.contains('stale')",
    );
}

#[test]
fn a_daemon_that_has_gone_is_silent_too() {
    let (mut fake, mut page) = open("host", "host-1", WIDE);
    fake.stop();
    page.until("silent", "document.getElementById('standing').innerText === 'Silent'");
    let unknown = Fake::start(|_| json!({ "role": "toaster" }));
    let mut page = Page::open(here(), &format!("{}/", unknown.origin()), WIDE);
    page.until("refused", "document.getElementById('about').innerText.includes('no role toaster')");
}

#[test]
fn nothing_of_another_place_may_run_or_be_asked() {
    let (fake, mut page) = open("gateway", "gw-1", WIDE);
    let other = Fake::start(|_| Value::Null);
    let tries = format!("fetch({:?}).then(() => 'answered', () => 'refused')", format!("{}/v1/status", other.origin()));
    assert_eq!(page.value(&tries), "refused");
    page.value("document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.title = \"owned\"' }))");
    assert!(
        !page.text("title").contains("owned") && page.complaints.iter().any(|one| one.contains("Content Security Policy")),
        "{:?}",
        page.complaints
    );
    let answer = lab::get(fake.address, "/", Duration::from_secs(5)).unwrap();
    assert!(answer.status == 200 && answer.body.contains("<title>Portway</title>"));
    assert_eq!(lab::get(fake.address, "/page/../../etc/passwd", Duration::from_secs(5)).unwrap().status, 404);
}
