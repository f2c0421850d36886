# From `cargo metadata --filter-platform TARGET` to CycloneDX 1.5 (https://cyclonedx.org/docs/1.5/json/): what is linked into the program, and what needs
# what. Tests' and build scripts' own dependencies are not: nobody gets them.

def purl: "pkg:cargo/\(.name)@\(.version)";
# Old crates write OR as a slash.
def licences: if .license then [{expression: (.license | gsub(" */ *"; " OR "))}] else [{license: {name: "see the files of the crate"}}] end;
def component($type):
    {type: $type, "bom-ref": purl, name, version, purl: purl, licenses: licences}
    + (if .description then {description: (.description | gsub("\\s+"; " ") | ltrimstr(" ") | rtrimstr(" "))} else {} end)
    + (if .repository then {externalReferences: [{type: "vcs", url: .repository}]} else {} end);

(.packages | map({key: .id, value: .}) | from_entries) as $package
| (.resolve.nodes | map({key: .id, value: [.deps[] | select(any(.dep_kinds[]; .kind == null)) | .pkg]}) | from_entries) as $needs
| def closure: . as $known | (. + [.[] | $needs[.][]] | unique) | if length == ($known | length) then . else closure end;
.resolve.root as $root
| ([$root] | closure) as $linked
| {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: {component: ($package[$root] | component("application"))},
    components: [$linked[] | select(. != $root) | $package[.] | component("library")] | sort_by(."bom-ref"),
    dependencies: [$linked[] | {ref: ($package[.] | purl), dependsOn: ([$needs[.][] | $package[.] | purl] | sort)}] | sort_by(.ref)
}
