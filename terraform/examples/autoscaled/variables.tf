variable "region" {
  description = "AWS's region."
  type        = string
  default     = "eu-central-1"
}

variable "platform" {
  description = "The platform's subnets for gateways, by zone, and the tables by which function hosts find HaVips."
  type = object({
    subnets      = map(string)
    route_tables = list(string)
  })
}

variable "acme" {
  description = "The same of acme: subnets of the same zones, and the tables by which its servers find HaVips."
  type = object({
    subnets      = map(string)
    route_tables = list(string)
  })
}

variable "directory" {
  description = "Where the directory is, who certifies it (PEM), and the ARN of a token of an operator of acme."
  type = object({
    url            = string
    ca             = optional(string)
    operator_token = string
  })
}

variable "secrets" {
  description = <<-EOT
    ARNs of the group's key, `ha`, and of the shards' private WireGuard keys, `acme-0` to `acme-3`. The module `secrets` makes all of them; gateways tell the directory
    the public halves, so nobody need know these.
  EOT
  type        = map(string)

  validation {
    condition     = length(setsubtract(["ha", "acme-0", "acme-1", "acme-2", "acme-3"], keys(var.secrets))) == 0
    error_message = "secrets lacks one of ha, acme-0, acme-1, acme-2 and acme-3: give the ARN of each, as the output arns of the module secrets has them."
  }
}

variable "hosts" {
  description = "Function hosts: their addresses, and ARNs of tokens to enrol with."
  type        = map(object({ outer = string, enroll_token = string }))
  default     = {}
}

variable "package" {
  description = "Portway's .deb, as the module has it. Null: the image has it."
  type = object({
    sha256 = string
    url    = optional(string)
    s3     = optional(object({ bucket = string, key = string }))
  })
  default = null
}
