using System.Security.Cryptography;

namespace Sessions.Api.Engine.Sealing;

/// <summary>A user's key, unwrapped when it is first used. For one thread at a time; never kept beyond one operation.</summary>
internal sealed class UserKey(string holder, WrappedKey wrapped, MasterKeys masters) : IDisposable
{
    private AesGcm? _cipher;

    /// <summary>What texts name it by.</summary>
    public Guid Id => wrapped.Id;

    /// <summary>What seals and opens with it.</summary>
    /// <exception cref="Storage.StoredDataException">It was wrapped with a master key that is not here, or for another holder.</exception>
    public AesGcm Cipher
    {
        get
        {
            if (_cipher is null)
            {
                var key = masters.Unwrap(wrapped.Bytes, holder, wrapped.Id);
                _cipher = Aead.Cipher(key);
                CryptographicOperations.ZeroMemory(key);
            }

            return _cipher;
        }
    }

    public void Dispose() => _cipher?.Dispose();
}
