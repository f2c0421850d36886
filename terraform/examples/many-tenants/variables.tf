variable "region" {
  description = "AWS's region."
  type        = string
  default     = "eu-central-1"
}

variable "platform" {
  description = "The platform's subnets for gateways, by zone (`a`, `b`), and the tables by which function hosts find HaVips."
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

variable "globex" {
  description = "The same of globex."
  type = object({
    subnets      = map(string)
    route_tables = list(string)
  })
}

variable "ha_key" {
  description = "ARN of the group's key, 64 hexadecimal digits."
  type        = string
}

variable "shard_keys" {
  description = "By shard: the ARN of its private WireGuard key, and the public one."
  type        = map(object({ private_key = string, public_key = string }))
}

variable "host_public_keys" {
  description = "Public WireGuard keys of the function hosts."
  type        = map(string)
}

variable "host_private_keys" {
  description = "ARNs of their private ones."
  type        = map(string)
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
