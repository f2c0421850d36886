variable "role" {
  description = "What the instance becomes: `gateway` or `host`."
  type        = string

  validation {
    condition     = contains(["gateway", "host"], var.role)
    error_message = "role is \"${var.role}\": write \"gateway\" or \"host\"."
  }
}

variable "node" {
  description = "The node's name. Null: the instance's id."
  type        = string
  default     = null
}

variable "config" {
  description = <<-EOT
    gateway.yaml or host.yaml. In it stand for what the instance knows of itself: `@node@`, `@zone@`, `@primary_interface@`,
    `@primary_address@`, and the `words` of its zone.
  EOT
  type        = string
}

variable "words" {
  description = "By availability zone: what to write for further words between `@`."
  type        = map(map(string))
  default     = {}

  validation {
    condition     = alltrue(flatten([for words in values(var.words) : [for word in keys(words) : can(regex("^[a-z0-9_.-]+$", word))]]))
    error_message = "A word has other characters than a-z, 0-9, '_', '.' and '-': the instance would not find it between its two '@'."
  }
}

variable "interfaces" {
  description = <<-EOT
    Network interfaces besides the primary one: by the name that the configuration has for it, the MAC addresses of which this instance gets one.
    `wait`: it is attached by Terraform, and nothing begins without it; else Portway attaches it. `routes`: networks that lie behind it, by the router.
  EOT
  type = map(object({
    macs   = list(string)
    wait   = optional(bool, true)
    routes = optional(map(string), {})
  }))
  default = {}

  validation {
    condition     = alltrue([for name in keys(var.interfaces) : can(regex("^[a-z][a-z0-9]{0,14}$", name))])
    error_message = "An interface's name is longer than the 15 characters that Linux takes, or has others than a-z and 0-9: shorten it."
  }
}

variable "secrets" {
  description = "Files of mode 0600 and the ARNs of what is in them: a parameter of SSM Parameter Store, or a secret of Secrets Manager."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for arn in values(var.secrets) : can(regex("^arn:[a-z-]+:(ssm:[a-z0-9-]+:[0-9]{12}:parameter|secretsmanager:[a-z0-9-]+:[0-9]{12}:secret)[/:].+$", arn))
    ])
    error_message = "A secret is not named by its ARN: write arn:aws:ssm:REGION:ACCOUNT:parameter/NAME or arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, and never the secret itself."
  }
}

variable "files" {
  description = "Files of mode 0644 with what is no secret, such as a CA's certificate."
  type        = map(string)
  default     = {}
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

variable "source_dest_check" {
  description = "False: the instance switches the source/destination check of its primary interface off, where Terraform cannot, in an Auto Scaling group."
  type        = bool
  default     = true
}

variable "join" {
  description = "A gateway that makes itself known to a directory: where that is, its CA's file, which shards, the ARN of an operator's token, and the file for its own."
  type = object({
    url            = string
    ca             = optional(string)
    shards         = list(string)
    operator_token = string
    token_file     = string
  })
  default = null
}

variable "enroll" {
  description = "A host that enrols at a directory: where that is, its CA's file, and the ARN of a token of the role `enroll`."
  type = object({
    url   = string
    ca    = optional(string)
    token = string
  })
  default = null
}

variable "endpoints" {
  description = "Other endpoints of AWS's services than those of the region, by `ssm`, `secretsmanager`, `s3` and `ec2`."
  type        = map(string)
  default     = {}
}
