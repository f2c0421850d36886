# From `cargo metadata` to CycloneDX 1.5 (https://cyclonedx.org/docs/1.5/json/): what is linked into the program, and what needs what. $linked: the packages that
# are, a line `NAME vVERSION ...` for each; metadata has all that could be, with other features. See scripts/sbom.

def purl: "pkg:cargo/\(.name)@\(.version)";
# Old crates write OR as a slash.
def licences: if .license then [{expression: (.license | gsub(" */ *"; " OR "))}] else [{license: {name: "see the files of the crate"}}] end;
def component($type):
    {type: $type, "bom-ref": purl, name, version, purl: purl, licenses: licences}
    + (if .description then {description: (.description | gsub("\\s+"; " ") | ltrimstr(" ") | rtrimstr(" "))} else {} end)
    + (if .repository then {externalReferences: [{type: "vcs", url: .repository}]} else {} end);

($linked | [split("\n")[] | select(. != "") | split(" ") | {key: "\(.[0]) \(.[1])", value: true}] | from_entries) as $named
| ([.packages[] | select($named["\(.name) v\(.version)"]) | {key: .id, value: .}] | from_entries) as $package
| (.resolve.nodes | map({key: .id, value: [.deps[] | select(any(.dep_kinds[]; .kind == null) and $package[.pkg]) | .pkg]}) | from_entries) as $needs
| .resolve.root as $root
| {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: {component: ($package[$root] | component("application"))},
    components: [$package | del(.[$root])[] | component("library")] | sort_by(."bom-ref"),
    dependencies: [$package | keys[] | {ref: ($package[.] | purl), dependsOn: ([$needs[.][] | $package[.] | purl] | unique)}] | sort_by(.ref)
}
