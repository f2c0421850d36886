variable "region" {
  description = "AWS's region."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "What all of it is called."
  type        = string
  default     = "portway-try"
}

variable "package" {
  description = "Portway's .deb on this machine."
  type        = string

  validation {
    condition     = fileexists(var.package)
    error_message = "There is no file ${var.package}: build the package first (docs/aws.md), and name it here."
  }
}

variable "ssh_key" {
  description = "Your public key for ssh, such as the content of ~/.ssh/id_ed25519.pub."
  type        = string

  validation {
    condition     = can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp[0-9]+) ", var.ssh_key))
    error_message = "ssh_key is no public key of OpenSSH: give the line that stands in a file such as ~/.ssh/id_ed25519.pub, never the private one."
  }
}

variable "ssh_from" {
  description = "Where you come from, as a network: your public address with /32."
  type        = string

  validation {
    condition     = can(cidrhost(var.ssh_from, 0)) && try(tonumber(split("/", var.ssh_from)[1]), 0) > 0
    error_message = "ssh_from is no network, or the whole Internet: write the address that you come from, such as 198.51.100.7/32."
  }
}

variable "ha_key" {
  description = "ARN of a key of the group that there is already. Null: one is made, which no plan and no state holds."
  type        = string
  default     = null
}

variable "image" {
  description = "The machines' image. Null: the newest Debian 12."
  type        = string
  default     = null
}
