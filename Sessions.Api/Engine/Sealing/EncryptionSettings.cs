using System.ComponentModel.DataAnnotations;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Engine.Sealing;

/// <summary>
/// The <c>encryption:</c> section of <c>config.yaml</c>: what users wrote is kept encrypted. docs/encryption.md tells how to run it.
/// </summary>
internal sealed class EncryptionSettings : IValidatableObject
{
    /// <summary>The section's name.</summary>
    public const string Section = "encryption";

    /// <summary>Whether what users wrote is encrypted. A store that holds plain texts is sealed by the command <c>rekey</c> first; one
    /// that was encrypted is not opened without.</summary>
    public bool Enabled { get; set; }

    /// <summary>The file that holds the master keys. A relative path starts from the folder of <c>config.yaml</c>.</summary>
    public string? KeyFile { get; set; }

    /// <summary>The master keys themselves, in place of a file.</summary>
    [Secret]
    public string? MasterKey { get; set; }

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (!Enabled)
        {
            yield break;
        }

        if (validationContext.GetService(typeof(SessionSettings)) is SessionSettings { StorageType: StorageType.Memory })
        {
            yield return new("is for what is stored outside of the process: sessions.storage_type sqlite or redis, not memory",
                [nameof(Enabled)]);
        }

        if (string.IsNullOrWhiteSpace(MasterKey) == string.IsNullOrWhiteSpace(KeyFile))
        {
            yield return new(
                "needs a master key: set either encryption.key_file or the environment variable ENCRYPTION__MASTER_KEY. "
                + "Make one with: openssl rand -base64 32", [nameof(Enabled)]);
        }
    }
}
