//! Keys and tokens that others made: OpenSSL 3.0 and Python's `hmac`, nothing of ours.
//!
//! ```text
//!   openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048      openssl pkey -pubout
//!   openssl dgst -sha256 -sign rsa                                    RS256 and its like
//!   openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -sign rsa    PS256
//!   openssl dgst -sha256 -sign p256                                   ES256, r and s taken out of the DER
//!   openssl pkeyutl -sign -inkey ed25519 -rawin                       EdDSA
//! ```
//!
//! The private halves were thrown away. Every token says the same, [`PAYLOAD`].

/// Before `exp`, after `iat`.
pub(crate) const NOW: u64 = 1_800_000_000;

/// Of the HS tokens.
pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";

/// What all tokens say.
pub(crate) const PAYLOAD: &str =
    r#"{"sub":"42","exp":2000000000,"iat":1700000000,"info":{"name":"Ada"},"channels":["news"]}"#;

/// Tokens without `kid`, by their algorithm.
pub(crate) const TOKENS: [(&str, &str); 12] = [
    (
        "HS256",
        "\
        eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.j4XvQzOXbajkHwlmhaFNKXKR569rS9Lspu-QQ6IKnVI",
    ),
    (
        "HS384",
        "\
        eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.zPwZQsUEBv_7LCwsjnbfS_LOKZaz0C7G8hMUhc0CiOU4j_Uwlbly092eZQW-\
        s8lp",
    ),
    (
        "HS512",
        "\
        eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.s_qUwP1ARHXabYisPuw3Y7pALWMXmKYDjsXw6GFfnKQyOxEVLqwBNFPpw3tc\
        sEgbpg3f76JL-4fYHeswg_1CvA",
    ),
    (
        "RS256",
        "\
        eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.BP35m2gTJwFo9CrZJeaiZAJS37vb0rEp7ymn3bD9C2IgXln_bGKN8UvDTyQu\
        lefzoCeNS-eoSEHZcZBk216LxHaKcAu00mO19umnn3FgpfVZJPG90tsNJMw68ZskA7sbvkyS7YY81DdFtEhPQsNdnYT3Kuy_61pOE1aGDMB-\
        brSi86jz3qLmdJAHya6t_Eyndjt8iFJcXp9VrpTKiLNfXewakm_v58VxY_ZxJNwEfKUtculeAPph0FnR97XaYAOQozk4YSSQCCn09rVeClNn\
        PV5LPxaqrW244mL3iFVk04NCqtuxgW8nVO0VQ61bro6YkT2y_GcM2DNmvtyYekDXzg",
    ),
    (
        "RS384",
        "\
        eyJhbGciOiJSUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.Z1aL09nNICI6t2cSlG8aVFnvSLgjcWwBFPIHpi3BET3CGF2wMN_c1vWmhc8Z\
        yYL27swuRftDxnX5k9la_jYFURmEN5aDaIQuq6WoLDqsM3t8zoPyrRommfBWYcl1ftRurWb4ti6iRoqy11J52uUGAD3Qc3mJMfxmO89NsDMX\
        MK40AYMLh7i_tnHZROGgCpl2OcBvR1TgWkO0Llvb1UjNeihKlHY4I-4FigYGIDwIYiyEDWEGBRbZhKq725hnwuBrvZzFokoyUDELm9OHqJAk\
        Ogl50qv2GA6ENsN2tRifZTcpzsigIn8cgk-fI73UP6f6BnA1O-mEMW9ZCfzWNi44ig",
    ),
    (
        "RS512",
        "\
        eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.TVeTMvw0mBMX788uKpUc6wBcsv72-1E78qsDPk1wISG7_x9MDYFkhu9ZxCIK\
        M4Nguckk-hlHvUM0hBfQLL1-ctRUCGC4Vy_Uf6w7QAiG9XiXPSxHKO4grJ2g0zSkqGZ9CJR96re64VCKTm0Y7Bf3Y5vy0ocrjhXF1eGKZ5pY\
        Y8RWVVTJB8rkjfL1KnI5YzPieGCtJXF8djNJ9iGiZE3x-N5VbO5_3N8bbEDdv2T-PNRZdY4o6tfAaFP4Y6GDnvcdkqCe7_2iHht3XKLpHP0h\
        RvdIH4s2U_BzO29uKmvyGENn-0-MijG8LeYMueMl8onhjmKArZe8_Q5oUiI9Z7yBxg",
    ),
    (
        "PS256",
        "\
        eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.cs6CRWtonA5bGnZpM__A5nDaLdr59GLbnQvRvWyf9m4YjmHRPTx1jJI9sj9q\
        9NgDuljbWN_XESOoVijlBrARJh8D-pZyLJ4XM6vdjb4ae4YTseaW4CEZFmkn3hPvRQwThITWRFlIwbp1cGYL3dEfdgIJZnjbUZblAsp1TppV\
        4xYHbxZU8AipBZnNGC4OiY53iQ2CrnPBPZQq_5zdujxshMBa0WQUdWHw4JbYFBivpA2rC2AF2L_cKHgJklGyvcjZaILdjrrXFHi_WYsIHfRE\
        dcF1sLYxTcUKvHXAIJ15qR5WulQeZ-eTcK--6kkIJUwUhMFEMulk14TWTwRMSQYzpw",
    ),
    (
        "PS384",
        "\
        eyJhbGciOiJQUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.XBxYbHPS34icdiZDEcwCoIqFZi7Uph4x743nAm7ZXT-C89aUyw4ltIxUayDJ\
        O_FCTz-xX1tB2aa0Pf-5V77ihAl0dfyjNKa8jhfPbmfhv9swmsC8btAhaP5BbxbySmU6b9AGDFj-goJWEXTRUDrwkcqh5Eck4gKeXxMAYnPS\
        SdAkXZiAtY8a1blCtOr9Tym20C52RGAJ8To8m7QD8b4wkFTsXpnoLcFta0gDFzS0SdcXYcHgtQMg_dowIdJVmXAbS-HGq_1HR-J9hGJvBRLe\
        yaJg1Dm7RqXCEjP4ZghwMOK7oBLrbm6dBPqDicvM84P3Ovhf0G-4162aSKKRrgzQSQ",
    ),
    (
        "PS512",
        "\
        eyJhbGciOiJQUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.QYDcdpIBcS1bqVE8cYkeE99FbAKX_y48gPn-Y9vK2aE5kh0pdMYN4poKG1ov\
        bNqG4Y-QAHWVdCi6tU80LWrmHxrL19t6ffazsD4SB2Gff-G3lgQ0UQnckcZMCHLyK3-PtYDc8cUlu3SgiM5l-wjLEhldM83893pYWZ1NQPSb\
        BkAtQsq0HqkNlcYe204WHlbx39diKRBqvSJNZOcEsWoJ4AjP1QFNboYHTxWsa_7QgCFerjrQ-3n4UB59Rkny9qZewDb7axXFKdzUkwh7DPec\
        WPz64AjLVQSoz0y8mc5HZmX4kmk95OT2_5htiXrS-7uV65w-qI9AJkeJYJThVfAfSA",
    ),
    (
        "ES256",
        "\
        eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.S8NYnRX2rdXRlu3N-_fIN-Zd4DnickfNE9SNaJnkrOrkW2iCe-CfqLxevD5x\
        -NxIQDUW6coFiLTIdwr7mh2q8g",
    ),
    (
        "ES384",
        "\
        eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.2rrQwgBVWOd_c9AnykKGcFojnaeMEQ_P1zOdeFU3dnyx2oYocFA2IsuCY7UF\
        TSqzTzpSVYI6MFMfHR79p0hr6RQbuWJYBhA-66292HDya_PMx8Zz50A4ESfb11VSFYwD",
    ),
    (
        "EdDSA",
        "\
        eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAwMDAwLCJpbmZvIjp\
        7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.oxgpsnnysYqc_gIJlF_zyl2_bZeXxK54BlTkbKTUdLhhPf76fr9LhVnecvk-\
        o-R8KJ920wchcCdncEX5Gt1FDA",
    ),
];

/// Tokens with `kid`, by the key's id.
pub(crate) const NAMED: [(&str, &str); 4] = [
    (
        "rsa",
        "\
        eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYSJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDA\
        wMDAwLCJpbmZvIjp7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.JVaxTN1k4dCCEDYpK9W5P5jS7prbxW_hxPCX2RB7p929\
        Ha77c8n1IrpljhaWpn0NN3pz9iinBvldaDEro6pArF3MvEZ8UY_8-ZfjLlMgKGfeHrhY2KXamIAVujutBUwTsfKn2cydLUNrdr743lWU18zl\
        vTZ6s6H7H_C_H10Pfn-G9sufzPycINjeomP9abapJLqosVKoaJxjZeAndaFcuFV4ydFNSdg_oY4T8fT6y13uf_RGwFZpW1_NKttSnpcrupB_\
        KGbkZsDb9BGk3aLovhQHpHKWs6uocb0Xv4ueipa3sjq65YExloCwPr62Cl3Fa2wvWYw_OMSd6xAoO59yKA",
    ),
    (
        "p256",
        "\
        eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InAyNTYifQ.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwM\
        DAwMDAwLCJpbmZvIjp7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.lKuMRapVKe9ZsyB5iMErxIjecfXj3tNi_JPNCyO1vh\
        qGo0JrI7m_YtEeaPaS-4BQdt9N_nY5pPmTOlsDK2Essw",
    ),
    (
        "p384",
        "\
        eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCIsImtpZCI6InAzODQifQ.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwM\
        DAwMDAwLCJpbmZvIjp7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.mjO2cHDYiV7aQ6ybbsePUvJJ-U0AA8pob-VN4TaI7z\
        I-O0GWulPYbRME_-wma92PDy1xwvIHs_4fTx2xtUuTo3V8IkyQCYGIgYEqaTp04iTnyJACyyD3GJLV3M1FOSUg",
    ),
    (
        "ed",
        "\
        eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImVkIn0.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDAw\
        MDAwLCJpbmZvIjp7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.EuIsryIark3oEAw_lBTKhzyvqmBgU_0nRbMcu47c07lOO\
        LhGKbUpDBDhN-AXr0rsjwIMdSsWEV9WXP9Y9P4RAA",
    ),
];

/// A token for the RSA key of the set, which is for RS256 only there.
pub(crate) const RS512_NAMED: &str = "\
        eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCIsImtpZCI6InJzYSJ9.eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMCwiaWF0IjoxNzAwMDA\
        wMDAwLCJpbmZvIjp7Im5hbWUiOiJBZGEifSwiY2hhbm5lbHMiOlsibmV3cyJdfQ.Q6rA-mh3wYJHRk8ZEFyGEWpnlSkQrYbTozw_l4wN43Ay\
        fjLoSviimSsKdOBr2JQ_rDWXceMwzkKVUcwu6n0dXJibIKwVszSTQIpjdey3zcACq01NoVRXGoxIHhOwAsyS2YM0r6fJYZUeL4hHgItu3p05\
        51kjB9OLFXH59ryNNF6xR6P4G5w_PNtfuu2evSXRe_8bhW5qSfCnA11PDRBP7SYOFFMYYmT3YniM66d0S23p_DiVEHH7uI2WLZAk5pRqaEhK\
        xo93pItW7NoZ5P3MwaykBynr_feX_ckxPnJofD2whRNjRNLAc-BZ8r0dlygV_r6y-SGly73UkGZN3s9bGQ";

/// The set with the keys of [`NAMED`].
pub(crate) fn jwks() -> String {
    const QUOTED: &str = "\
        {'keys':[{'kty':'RSA','kid':'rsa','use':'sig','alg':'RS256','n':'kmjVnGEZjzdddAngNwUo7Z28m3yXSWp9KSZChfBIbB9\
        PARW0mMTYQWIIe6C8hqCNAx5dTSuzAxSvera-6tZF6xgazeAfwj-amu_f9PEuJgABwiYLoBpLanf9ge6PrV4HNXcusNtXJ0ABv8EUBAlYtr5\
        wRrcPZIpzkItm2Bep26freQrWi7qApMrgH1vtkDkFkbNj26ZlFv6RUrYKCTG4G5f1kWbtBzGyNsmY2SNlYu4T43agG3Y_Eemdy4t00W_ys7x\
        qMPyftcEd0_kp-ZJ2dL_pf4uWdHkfeFsCbb8uUIWAlbeR-tNqtZNbfc-Tj-QqvpfiZ0q-gV8NO9_JsHnjQQ','e':'AQAB'},{'kty':'EC'\
        ,'kid':'p256','crv':'P-256','x':'OCuYNEVxmSILpdPB9k_b4ikHnp9acJDSVw8kqCpsUoc','y':'X6gAPuCqnjdRCPwS6RSaEhHfe\
        iOYBvQqI6dxokGcBlM'},{'kty':'EC','kid':'p384','use':'sig','crv':'P-384','x':'pmhjtqG7NkcGpDkDL4KEvbHdtGaQQ2o\
        8T-ER77xQ7ADeaHQIhNLKo39vvjLng27_','y':'OR7yhmMAO2JTbEeMAGvh60NXj3p60OyDUgS7apJhBBj0PRRlQnNeNBkERVAChwHg'},{\
        'kty':'OKP','kid':'ed','use':'sig','alg':'EdDSA','crv':'Ed25519','x':'r4u8px21dj_WCvppkDmIkOnYa_NL5fqI094Vjf\
        N2tbk'}]}";
    QUOTED.replace('\'', "\"")
}

/// 2048 bits.
pub(crate) const RSA: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAkmjVnGEZjzdddAngNwUo
7Z28m3yXSWp9KSZChfBIbB9PARW0mMTYQWIIe6C8hqCNAx5dTSuzAxSvera+6tZF
6xgazeAfwj+amu/f9PEuJgABwiYLoBpLanf9ge6PrV4HNXcusNtXJ0ABv8EUBAlY
tr5wRrcPZIpzkItm2Bep26freQrWi7qApMrgH1vtkDkFkbNj26ZlFv6RUrYKCTG4
G5f1kWbtBzGyNsmY2SNlYu4T43agG3Y/Eemdy4t00W/ys7xqMPyftcEd0/kp+ZJ2
dL/pf4uWdHkfeFsCbb8uUIWAlbeR+tNqtZNbfc+Tj+QqvpfiZ0q+gV8NO9/JsHnj
QQIDAQAB
-----END PUBLIC KEY-----";

/// Too short.
pub(crate) const RSA1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCkK88uu9X6GrasPIr8N8Wk3Lw9
o7XyAFyl8Gi4WV9/2iqu1yPJBYUNiT2merRmD8tUMHtxFYh3m9XJ+cMSmbww0Vh2
6pQneGq6vhQtEDsaCUUamdap/1NTuPDhfWj7B9FdnlfA1Zg0prb3aihUye2EqDgL
2IdKhN7hWp+nwrN91QIDAQAB
-----END PUBLIC KEY-----";

/// Restricted to PSS.
pub(crate) const RSAPSS: &str = "-----BEGIN PUBLIC KEY-----
MIIBIDALBgkqhkiG9w0BAQoDggEPADCCAQoCggEBAJvIrnlFzrfxnFxnyrJulLi1
6tzv/cjdAxbuKhNzeOVWSlXyjDr+qOQkSqjx4clf5brtgmubuTG2ZhnSz//rCeml
n3Wqhy1t0Y2j9JCgFdr+fw3+yH7XcDADrDthlQW9+GtVgQAaJg+4CsNj1YxddOKO
Kkmm8fAeHCYabA6Mly4p9J2DBJkgsGi9qgISFTb/PENxS9m2ZVs7FDv1DxQXUeXr
+RUPS1CWZ0wgnDFn6DidMHneGnBDfo2g8UkD+jihk0Ki7HPeO/5BJakOOQoS21TZ
Vkp7UFHtB5wJK54Ap0INdxGZztpcH9iWbvB1aBRizJl+8j+AufVWxOojpa+Z7YUC
AwEAAQ==
-----END PUBLIC KEY-----";

/// By OpenSSL.
pub(crate) const P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEOCuYNEVxmSILpdPB9k/b4ikHnp9a
cJDSVw8kqCpsUodfqAA+4KqeN1EI/BLpFJoSEd96I5gG9Cojp3GiQZwGUw==
-----END PUBLIC KEY-----";

/// By OpenSSL.
pub(crate) const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEpmhjtqG7NkcGpDkDL4KEvbHdtGaQQ2o8
T+ER77xQ7ADeaHQIhNLKo39vvjLng27/OR7yhmMAO2JTbEeMAGvh60NXj3p60OyD
UgS7apJhBBj0PRRlQnNeNBkERVAChwHg
-----END PUBLIC KEY-----";

/// Not supported.
pub(crate) const P521: &str = "-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBVWfZhsZSoo4vgNTlPWrQlPJdSOCZ
dzoDAQLc3uaGdqUP10zAjNaWTis14DHbAluuneD/zvvpvnEtzN7tPiYFeisB2j+7
FDjhNasUsU/9+PQJBS4O88O+tiPbdO6Q9yw477Sj35Ua7o7Jl6o2Fn2o0z/5wWTA
3iqrL0yvxYIj736rAHU=
-----END PUBLIC KEY-----";

/// On secp256k1.
pub(crate) const K256: &str = "-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEyajbCrvAcUX69yDeVtD5v+C7EKipi7Np
ABRwcxd2W5tEw+tK+IiwYTiU54nMwLIJXR7PRo5ZyfNVVI8IFPczQw==
-----END PUBLIC KEY-----";

/// By OpenSSL.
pub(crate) const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAr4u8px21dj/WCvppkDmIkOnYa/NL5fqI094VjfN2tbk=
-----END PUBLIC KEY-----";

/// Not supported.
pub(crate) const ED448: &str = "-----BEGIN PUBLIC KEY-----
MEMwBQYDK2VxAzoAu5WHwivkxew0DINncNGMKcWK1iJcaxkPlCAVlz4fZbaR4+UP
nZKWytSj6xtSdhdukqeCMOlhEQ8A
-----END PUBLIC KEY-----";

/// [`RSA`] in the form of PKCS#1.
pub(crate) const RSA_PKCS1: &str = "-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEAkmjVnGEZjzdddAngNwUo7Z28m3yXSWp9KSZChfBIbB9PARW0mMTY
QWIIe6C8hqCNAx5dTSuzAxSvera+6tZF6xgazeAfwj+amu/f9PEuJgABwiYLoBpL
anf9ge6PrV4HNXcusNtXJ0ABv8EUBAlYtr5wRrcPZIpzkItm2Bep26freQrWi7qA
pMrgH1vtkDkFkbNj26ZlFv6RUrYKCTG4G5f1kWbtBzGyNsmY2SNlYu4T43agG3Y/
Eemdy4t00W/ys7xqMPyftcEd0/kp+ZJ2dL/pf4uWdHkfeFsCbb8uUIWAlbeR+tNq
tZNbfc+Tj+QqvpfiZ0q+gV8NO9/JsHnjQQIDAQAB
-----END RSA PUBLIC KEY-----";

/// [`P256`] with its point compressed.
pub(crate) const P256_COMPRESSED: &str = "-----BEGIN PUBLIC KEY-----
MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgADOCuYNEVxmSILpdPB9k/b4ikHnp9a
cJDSVw8kqCpsUoc=
-----END PUBLIC KEY-----";

/// A certificate of [`RSA`].
pub(crate) const RSA_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIDAzCCAeugAwIBAgIUbf5bWZvhysW448YIELnERPlZCpkwDQYJKoZIhvcNAQEL
BQAwETEPMA0GA1UEAwwGdG9rZW5zMB4XDTI2MTEyNjA5MTkxMVoXDTM2MTEyMzA5
MTkxMVowETEPMA0GA1UEAwwGdG9rZW5zMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A
MIIBCgKCAQEAkmjVnGEZjzdddAngNwUo7Z28m3yXSWp9KSZChfBIbB9PARW0mMTY
QWIIe6C8hqCNAx5dTSuzAxSvera+6tZF6xgazeAfwj+amu/f9PEuJgABwiYLoBpL
anf9ge6PrV4HNXcusNtXJ0ABv8EUBAlYtr5wRrcPZIpzkItm2Bep26freQrWi7qA
pMrgH1vtkDkFkbNj26ZlFv6RUrYKCTG4G5f1kWbtBzGyNsmY2SNlYu4T43agG3Y/
Eemdy4t00W/ys7xqMPyftcEd0/kp+ZJ2dL/pf4uWdHkfeFsCbb8uUIWAlbeR+tNq
tZNbfc+Tj+QqvpfiZ0q+gV8NO9/JsHnjQQIDAQABo1MwUTAdBgNVHQ4EFgQUURq9
t63Pqd56MGPlL2oHzmdFbp0wHwYDVR0jBBgwFoAUURq9t63Pqd56MGPlL2oHzmdF
bp0wDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG9w0BAQsFAAOCAQEATvXQXg3Ey+tZ
v+c4JdFpcQp49ZJNIp9mzazMw3tcqKVZv/z7NhqHKXsIPx+W3WSJregac3rj++oC
YIpR8QC1f6JqPGdpebmP+K0BrLJso4QJWuQ3i5TwpDAFU2ZfMXOLA4vDwX63g8Ai
seQPskEG3dZw1AfXFZzCp+3GVvwIz1X+Ye8gIT8iOqkhQishUGQMzJtQOS3bkOTh
eFUWogPFT6vIni3+w+vPc7VbrQUD0a1g3JLFoiYcptwSC+LIG5E+2PpgOdu5dYFU
2qFdpWBR/OtROXjNPTU8t1g9DK9DBIaFMFtx9cfiTrnrmABl2FOW9/TY//AArR2d
KMDBrHt4FQ==
-----END CERTIFICATE-----";

/// A certificate of [`P256`].
pub(crate) const P256_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBdjCCAR2gAwIBAgIUUokJVwaq8F1mTCGvgTTj1KFiZHowCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGdG9rZW5zMB4XDTI2MTEyNjA5MTkxMVoXDTM2MTEyMzA5MTkx
MVowETEPMA0GA1UEAwwGdG9rZW5zMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
OCuYNEVxmSILpdPB9k/b4ikHnp9acJDSVw8kqCpsUodfqAA+4KqeN1EI/BLpFJoS
Ed96I5gG9Cojp3GiQZwGU6NTMFEwHQYDVR0OBBYEFFmgcI3D8MVmW3CWhmewHsUH
eXdGMB8GA1UdIwQYMBaAFFmgcI3D8MVmW3CWhmewHsUHeXdGMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgGWgsXu22CahGNFgQ8CHf89oP5hWCsjTp
4A2mmagC5EcCIFQfw1/ytrbdCVTKR9dcuqK8YaaARQtF7CEcnk1VApFd
-----END CERTIFICATE-----";
