using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>The <c>encryption:</c> section of <c>config.yaml</c>: what users wrote is kept encrypted. docs/encryption.md tells how to run it.</summary>
internal sealed class EncryptionSettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "encryption";

    /// <summary>Whether what is written from now on is encrypted. What is there stays readable either way round but off again.</summary>
    public bool Enabled { get; set; }

    /// <summary>The file that holds the master keys. A relative path starts from the folder of <c>config.yaml</c>.</summary>
    public string? KeyFile { get; set; }

    /// <summary>The master keys themselves, in place of a file.</summary>
    [Secret]
    public string? MasterKey { get; set; }
}
