variable "name" {
  description = "Of this fleet of function hosts: names of its security group and role are made of it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name is \"${var.name}\": write 1 to 24 lowercase letters, digits and '-', a letter first."
  }
}

variable "vpc_id" {
  description = "The VPC that the hosts are in."
  type        = string
}

variable "appliances" {
  description = "What serves the hosts: the output `function_host` of each appliance."
  type = list(object({
    tunnel    = string
    directory = optional(object({ url = string, ca = optional(string) }))
    tenants = map(object({
      key   = optional(number)
      cidrs = list(string)
      shards = list(object({
        shard      = number
        gateway    = string
        port       = number
        next       = optional(number)
        public_key = optional(string)
        inner      = map(string)
      }))
    }))
  }))

  validation {
    condition     = length(var.appliances) > 0 && length(distinct(var.appliances[*].tunnel)) <= 1 && length(distinct(var.appliances[*].directory)) <= 1
    error_message = "A host has tunnels of one kind, and one directory or none: give appliances with the same tunnel and directory, one at least."
  }

  validation {
    condition     = length(distinct(flatten([for appliance in var.appliances : keys(appliance.tenants)]))) == length(flatten([for appliance in var.appliances : keys(appliance.tenants)]))
    error_message = "Two appliances serve tenants of one name: all shards of a tenant belong to one appliance. Rename one, or make it one appliance."
  }

  validation {
    condition = length(distinct(flatten([
      for appliance in var.appliances : [for tenant in values(appliance.tenants) : tenant.key == null ? [] : [tenant.key]]
      ]))) == length(flatten([
      for appliance in var.appliances : [for tenant in values(appliance.tenants) : tenant.key == null ? [] : [tenant.key]]
    ]))
    error_message = "Two tenants of a host have the same key: give each its own, over all appliances of a host."
  }
}

variable "hosts" {
  description = <<-EOT
    The hosts by name, as in the appliances' `hosts`: `outer`, the address of each; `interface`, what its image calls its first one, for the output `host_yaml` only;
    with WireGuard `private_key` by ARN, or, with a directory, `enroll_token` by ARN: a token of the role `enroll`.
  EOT
  type = map(object({
    outer        = string
    interface    = optional(string, "ens5")
    private_key  = optional(string)
    enroll_token = optional(string)
  }))

  validation {
    condition     = alltrue([for name in keys(var.hosts) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", name))])
    error_message = "A host's name has others than letters, digits, '-', '_' and '.', or more than 63 of them."
  }

  validation {
    condition     = alltrue([for host in values(var.hosts) : can(cidrhost("${host.outer}/32", 0))])
    error_message = "A host's outer is no IPv4 address: write its own in the platform's network, such as 10.9.64.11."
  }

  validation {
    condition = alltrue(flatten([
      for appliance in var.appliances : [
        for name, tenant in appliance.tenants : [for shard in tenant.shards : [for host in keys(var.hosts) : appliance.directory != null || contains(keys(shard.inner), host)]]
      ]
    ]))
    error_message = "A host is not known to an appliance: give the appliance the same hosts, each with its number, or both a directory."
  }

  validation {
    condition = alltrue([
      for host in values(var.hosts) : alltrue([for appliance in var.appliances : appliance.tunnel != "wireguard" || (appliance.directory == null ? host.private_key != null : host.enroll_token != null)])
    ])
    error_message = "With tunnel = \"wireguard\" every host needs private_key, the ARN of its key; with a directory enroll_token, the ARN of a token of the role enroll, instead."
  }

  validation {
    condition = alltrue([
      for arn in compact(concat(values(var.hosts)[*].private_key, values(var.hosts)[*].enroll_token)) : can(regex("^arn:[a-z-]+:(ssm:[a-z0-9-]+:[0-9]{12}:parameter|secretsmanager:[a-z0-9-]+:[0-9]{12}:secret)[/:].+$", arn))
    ])
    error_message = "A host's secret is not named by its ARN: write arn:aws:ssm:REGION:ACCOUNT:parameter/NAME or arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, and never the secret itself."
  }
}

variable "package" {
  description = "Portway's .deb: `url`, over https, or `s3`, an object of a bucket in the region; and `sha256`, what `sha256sum` says of it. Null: the image has it."
  type = object({
    sha256 = string
    url    = optional(string)
    s3     = optional(object({ bucket = string, key = string }))
  })
  default = null

  validation {
    condition     = var.package == null ? true : (var.package.url == null) != (var.package.s3 == null)
    error_message = "package needs one of url and s3: url = \"https://HOST/FILE\", or s3 = { bucket = \"BUCKET\", key = \"KEY\" }."
  }

  validation {
    condition     = var.package == null ? true : var.package.url == null ? true : can(regex("^https://[^/ ]+/[^ ]+$", var.package.url))
    error_message = "package.url is not https://HOST/FILE: over plain http anybody on the way could put a package of theirs in its place."
  }

  validation {
    condition     = var.package == null ? true : can(regex("^[0-9a-f]{64}$", var.package.sha256))
    error_message = "package.sha256 must be the 64 lowercase hexadecimal digits that `sha256sum FILE` prints, or in Terraform filesha256(FILE)."
  }
}

variable "havip_cidrs" {
  description = "Networks in which all platform HaVips lie, for the rules of the security group. Null: a rule for each HaVip, of which a group takes 60."
  type        = list(string)
  default     = null

  validation {
    condition     = var.havip_cidrs != null || length(flatten([for appliance in var.appliances : [for tenant in values(appliance.tenants) : tenant.shards[*].gateway]])) <= 50
    error_message = "There are more platform HaVips than a security group takes rules: give havip_cidrs, networks in which they lie, such as [\"10.9.0.0/24\"]."
  }
}

variable "egress" {
  description = "Where hosts may open connections, beside their tunnels: TCP ports by network. The package and the directory are there."
  type        = map(list(number))
  default     = { "0.0.0.0/0" = [80, 443] }

  validation {
    condition     = alltrue([for cidr in keys(var.egress) : can(cidrhost(cidr, 0))]) && alltrue(flatten([for ports in values(var.egress) : [for port in ports : port >= 1 && port <= 65535]]))
    error_message = "egress has what is no network, or a port that is not 1 to 65535: write { \"0.0.0.0/0\" = [443] }."
  }
}

variable "kms_keys" {
  description = "ARNs of your own KMS keys by which the secrets are encrypted. AWS's own need none."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.kms_keys : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", arn))])
    error_message = "kms_keys takes ARNs of keys, such as arn:aws:kms:eu-central-1:123456789012:key/ID: an alias cannot stand in a policy."
  }
}

variable "policies" {
  description = "ARNs of further policies for the hosts' role, such as AmazonSSMManagedInstanceCore."
  type        = list(string)
  default     = []
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
