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
  description = "ARNs of keys that there are already: `ha`, `acme-0` to `acme-3`. Null: they are made, and no plan and no state holds them."
  type        = map(string)
  default     = null
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
