//! A headless Chromium, told what to do over two pipes: the Chrome DevTools Protocol (`--remote-debugging-pipe`: it reads descriptor 3 and writes 4; each message ends with
//! a zero byte).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For an answer of the browser, and for what shall come to be seen.
const SOON: Duration = Duration::from_secs(60);

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    calls: u64,
    _profile: TempDir,
}

/// A page in a browser of its own.
pub struct Page {
    browser: Browser,
    session: String,
    /// What it has asked for.
    pub requests: Vec<String>,
    /// What it has complained of.
    pub complaints: Vec<String>,
    loads: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    pub still: bool,
}

pub const WIDE: Look = Look { width: 1200, height: 900, dark: false, still: false };
pub const PHONE: Look = Look { width: 360, height: 780, dark: false, still: false };

impl Browser {
    /// `shell`: runs `sh` where the browser is to run.
    fn start(mut shell: Command) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let found = Command::new("chromium").arg("--version").stderr(Stdio::null()).output();
        assert!(found.is_ok_and(|output| output.status.success()), "there is no chromium: run `scripts/install-deps test`");
        shell.args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#, "sh", "chromium", "--headless=new", "--remote-debugging-pipe"]);
        // Tests run as root, for which it has no sandbox; and nothing of its own shall call anybody.
        shell.args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"]);
        shell.args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors"]);
        shell.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (to, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (told, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
                if told.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, to, from, calls: 0, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page {
    /// Opens it; what it asks for may yet come.
    pub fn open(shell: Command, url: &str, look: Look) -> Self {
        let mut page = Self { browser: Browser::start(shell), session: String::new(), requests: vec![], complaints: vec![], loads: 0 };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = page.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        page.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.look(look);
        page.load("Page.navigate", json!({ "url": url }));
        page
    }

    /// The same anew.
    pub fn reload(&mut self) {
        self.load("Page.reload", json!({ "ignoreCache": true }));
    }

    /// Returns when the document is there.
    fn load(&mut self, method: &str, params: Value) {
        let before = self.loads;
        self.call(method, params);
        let deadline = Instant::now() + SOON;
        while self.loads == before {
            assert!(Instant::now() < deadline, "the page does not load");
            std::thread::sleep(Duration::from_millis(20));
            self.call("Page.enable", json!({}));
        }
    }

    pub fn look(&mut self, look: Look) {
        let metrics = json!({ "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!([
            { "name": "prefers-color-scheme", "value": if look.dark { "dark" } else { "light" } },
            { "name": "prefers-reduced-motion", "value": if look.still { "reduce" } else { "no-preference" } },
        ]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// The value of an expression.
    pub fn value(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true, "awaitPromise": true }));
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {:#}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    pub fn text(&mut self, selector: &str) -> String {
        let value = self.value(&format!("[...document.querySelectorAll({selector:?})].map((one) => one.innerText).join('\\n')"));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Until an expression is true, without anything being done to the page.
    pub fn until(&mut self, what: &str, expression: &str) {
        let deadline = Instant::now() + SOON;
        while self.value(expression) != true {
            if Instant::now() >= deadline {
                let seen = self.text("body");
                panic!("not {what}: {:?}\n{seen}", self.complaints);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Cells of a table, row by row.
    pub fn rows(&mut self, table: &str) -> Vec<Vec<String>> {
        let cells = format!(
            "[...document.querySelectorAll('#{table} tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
        );
        serde_json::from_value(self.value(&cells)).unwrap()
    }

    /// Types into the element that has the focus, and presses Enter.
    pub fn enter(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
        for kind in ["keyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r" });
            self.call("Input.dispatchKeyEvent", key);
        }
    }

    /// A picture of what is seen, or of all of it, in target/screenshots.
    pub fn screenshot(&mut self, name: &str) -> PathBuf {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("screenshots");
        std::fs::create_dir_all(&target).unwrap();
        let path = target.join(format!("{name}.png"));
        std::fs::write(&path, &bytes).unwrap();
        assert!(bytes.len() > 5_000, "{} is an empty page", path.display());
        path
    }

    /// It has asked nobody but the daemon that it came from, and complained of nothing.
    pub fn is_content(&mut self, origin: &str) {
        self.value("1");
        assert_eq!(self.complaints, Vec::<String>::new());
        let elsewhere: Vec<&String> = self.requests.iter().filter(|url| !url.starts_with(&format!("{origin}/"))).collect();
        assert!(self.requests.len() > 5 && elsewhere.is_empty(), "{elsewhere:?} of {:?}", self.requests);
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let browser = &mut self.browser;
        browser.calls += 1;
        let id = browser.calls;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        browser.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.browser.from.recv_timeout(SOON).unwrap_or_else(|error| panic!("{method}: the browser is silent: {error}"));
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.hear(&answer);
        }
    }

    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Network.requestWillBeSent") => self.requests.push(params["request"]["url"].as_str().unwrap_or_default().to_owned()),
            Some("Page.loadEventFired") => self.loads += 1,
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") => self.complaints.push(params["args"].to_string()),
            Some("Log.entryAdded") => self.complaints.push(params["entry"].to_string()),
            _ => {}
        }
    }
}
