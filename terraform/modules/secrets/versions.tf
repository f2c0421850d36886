terraform {
  # Values that are never in a plan or a state: ephemeral resources, write-only arguments.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.88"
    }
  }
}
