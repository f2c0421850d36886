variable "prefix" {
  description = "Before the parameters' names: `/portway/prod` makes `/portway/prod/ha`."
  type        = string

  validation {
    condition     = can(regex("^(/[A-Za-z0-9_.-]+){1,10}$", var.prefix)) && !can(regex("^/(aws|ssm)", lower(var.prefix)))
    error_message = "prefix is \"${var.prefix}\": write a path, such as /portway/prod; AWS keeps /aws and /ssm for itself."
  }
}

variable "keys" {
  description = <<-EOT
    What to make, by name: `kind` is `ha` (64 hexadecimal digits: a key of the group) or `wireguard` (a private key); `generation` is raised for another one in its
    place. Whoever needs a WireGuard key's public half without a directory makes the pair by `wg` instead.
  EOT
  type = map(object({
    kind       = string
    generation = optional(number, 1)
  }))
  default = { ha = { kind = "ha" } }

  validation {
    condition     = alltrue([for name in keys(var.keys) : can(regex("^[A-Za-z0-9_.-]+$", name))])
    error_message = "A key's name has others than letters, digits, '.', '-' and '_'."
  }

  validation {
    condition     = alltrue([for key in values(var.keys) : contains(["ha", "wireguard"], key.kind) && key.generation >= 1 && floor(key.generation) == key.generation])
    error_message = "A key's kind is \"ha\" or \"wireguard\", and its generation 1 and up."
  }
}

variable "kms_key_id" {
  description = "The KMS key that encrypts them. Null: AWS's own of Parameter Store."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of the parameters."
  type        = map(string)
  default     = {}
}
